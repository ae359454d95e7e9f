//! `pontoon serve`: one server, from its settings to its end.

use std::{io, panic, process, thread};

use crossbeam_channel::{Receiver, bounded, select};
use nix::sys::signal::Signal;
use pontoon_server::{Server, Settings};
use tracing::{info, warn};

use crate::{
    args::ServeArgs,
    config::{self, Config},
    failure::Failure,
    logging, signals,
};

/// Why a server stops.
enum End {
    /// Somebody wants it to.
    Asked(&'static str),
    /// It cannot go on.
    Failed(String),
}

/// Runs one server until it is asked to stop, or fails.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    let Config { settings, log_level } = config::load(args.settings, args.config.as_deref())?;
    logging::start(&log_level)?;
    let signals = signals::listen()?;
    let parent = args.stop_on_stdin_eof.then(stdin_end).transpose()?;
    abort_on_panic();
    warn_of_open_door(&settings);

    let server = Server::start(settings).map_err(Failure::new)?;
    match wait(&signals, parent, server.failed()) {
        End::Asked(reason) => {
            info!(reason, "stopping");
            server.stop();
            info!("stopped");
            Ok(())
        }
        // Nothing that it holds is to be trusted with a clean end.
        End::Failed(sentence) => Err(Failure::new(sentence)),
    }
}

fn wait(signals: &Receiver<Signal>, parent: Option<Receiver<()>>, failed: Receiver<String>) -> End {
    let parent = parent.unwrap_or_else(crossbeam_channel::never);
    select! {
        recv(signals) -> signal => End::Asked(signal.map_or("no signals can be received any more", Signal::as_str)),
        // Its thread ends without a word when stdin does.
        recv(parent) -> _ => End::Asked("the process that started it is gone"),
        recv(failed) -> why => End::Failed(why.unwrap_or_else(|_| "the server ended by itself: its log tells more".to_string())),
    }
}

/// A channel that is disconnected when stdin ends.
fn stdin_end() -> Result<Receiver<()>, Failure> {
    let (open, closed) = bounded(0);
    let drain = move || {
        // An error is an end too. Nobody writes; but what somebody writes is thrown away.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(open);
    };
    thread::Builder::new()
        .name("pontoon-parent".to_string())
        .spawn(drain)
        .map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))?;
    Ok(closed)
}

/// A panic anywhere is the end of the process: a server with a dead thread would only seem to be alive.
fn abort_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        process::abort();
    }));
}

fn warn_of_open_door(settings: &Settings) {
    if settings.password.is_none() && !config::is_loopback(&settings.listen) {
        warn!(
            listen = settings.listen,
            "clients of other machines can connect without a password: consider --password"
        );
    }
}
