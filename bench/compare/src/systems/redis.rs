//! A single Redis that fsyncs each write before it answers.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Process, command, free_port, pontoon::figures, wait_for};

/// One server.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Process,
}

/// What it is started with, beyond its place.
pub const FLAGS: &str = "--appendonly yes --appendfsync always --save \"\"";

impl Redis {
    /// Starts it and waits until it answers.
    pub fn start(dir: &Path) -> Result<Redis> {
        let port = free_port()?;
        let data = dir.join("redis");
        std::fs::create_dir(&data)?;
        let mut server = command("redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &port.to_string()]).arg("--dir").arg(&data);
        server.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        let process = Process::start(server, &dir.join("redis.log"))
            .context("Redis is missing: install Debian's package redis-server")?;
        let redis = Redis { port, process };
        wait_for("Redis", || figures(&redis.address())?.contains_key("redis_version").then_some(()))?;
        Ok(redis)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
