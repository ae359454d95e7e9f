//! Connections, and requests in flight on each.

use std::fmt;

use crate::load::Op;

/// Connections x requests in flight on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    pub connections: usize,
    pub inflight: usize,
}

/// What a shape must reach: the throughput's ratio to etcd's and to Redis's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    pub etcd: f64,
    pub redis: f64,
}

impl Shape {
    /// Those with targets.
    pub const ALL: [Shape; 4] = [
        Shape { connections: 1, inflight: 1 },
        Shape { connections: 64, inflight: 1 },
        Shape { connections: 8, inflight: 8 },
        Shape { connections: 16, inflight: 64 },
    ];

    /// From a text such as `16x64`.
    pub fn parse(text: &str) -> Result<Shape, String> {
        let parse = || {
            let (connections, inflight) = text.split_once('x')?;
            let shape = Shape { connections: connections.parse().ok()?, inflight: inflight.parse().ok()? };
            (shape.connections > 0 && shape.inflight > 0).then_some(shape)
        };
        parse().ok_or_else(|| format!("{text:?} is no shape: give connections x in flight, such as 16x64"))
    }

    /// Its target, if it has one.
    pub fn target(self, op: Op) -> Option<Target> {
        let at = Shape::ALL.iter().position(|shape| *shape == self)?;
        let (etcd, redis) = match op {
            Op::Put => [(3.0, 0.6), (8.0, 0.6), (8.0, 0.6), (12.0, 0.5)][at],
            Op::Get => [(4.0, 0.5), (12.0, 0.6), (15.0, 0.5), (40.0, 0.5)][at],
        };
        Some(Target { etcd, redis })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.connections, self.inflight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_as_it_is_written() {
        assert_eq!(Shape::parse("16x64"), Ok(Shape::ALL[3]));
        assert!(Shape::parse("16").is_err() && Shape::parse("0x1").is_err() && Shape::parse("1xx").is_err());
        assert_eq!(Shape::ALL[3].to_string(), "16 x 64");
    }
}
