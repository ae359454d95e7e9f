//! A gRPC client of etcd: a closed loop over connections and tasks.
//!
//! The few messages that are needed are written down by hand, with etcd's field numbers
//! (<https://github.com/etcd-io/etcd/blob/v3.4.23/etcdserver/etcdserverpb/rpc.proto>).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::{runtime::Runtime, task::LocalSet};
use tonic::{
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{Op, Outcome};

/// Latencies are counted in microseconds with three digits, up to this.
const LATENCY_US_MAX: u64 = 600_000_000;
/// How many places a value can start at: values are stretches of random bytes, as those of `pontoon bench`.
const VALUE_STARTS: usize = 64 << 10;

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    pub endpoints: Vec<String>,
    pub op: Op,
    pub connections: usize,
    pub inflight: usize,
    pub keys: u64,
    pub value_bytes: usize,
    pub seconds: u64,
    pub warmup: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

/// Without `serializable` (field 7), etcd reads linearizably.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// The endpoints, the leader's first, as soon as there is one.
pub fn leader_first(endpoints: &[String], patience: Duration) -> Result<Vec<String>> {
    let deadline = Instant::now() + patience;
    runtime()?.block_on(async {
        loop {
            for endpoint in endpoints {
                if leads(endpoint).await.unwrap_or(false) {
                    let others = endpoints.iter().filter(|other| *other != endpoint);
                    return Ok(std::iter::once(endpoint).chain(others).cloned().collect());
                }
            }
            if Instant::now() > deadline {
                bail!("etcd has no leader");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

async fn leads(endpoint: &str) -> Result<bool> {
    let mut client = Client::connect(endpoint).await?;
    let status: StatusResponse =
        client.call(StatusRequest {}, PathAndQuery::from_static("/etcdserverpb.Maintenance/Status")).await?;
    let header = status.header.context("a header")?;
    Ok(status.leader != 0 && status.leader == header.member_id)
}

/// Writes every key once.
pub fn load_keys(load: &Load) -> Result<()> {
    let next = Rc::new(Cell::new(0));
    let keys = load.keys;
    let key = move || {
        let key = next.get();
        next.set(key + 1);
        (key < keys).then_some(key)
    };
    let tally = run(&Load { op: Op::Put, ..load.clone() }, Duration::from_secs(3600), key)?;
    match tally.errors.get() {
        0 => Ok(()),
        errors => bail!("{errors} of {keys} keys could not be loaded into etcd"),
    }
}

/// Measures.
pub fn measure(load: &Load) -> Result<Outcome> {
    if load.warmup > 0 {
        drawn(load, load.warmup)?;
    }
    let (tally, elapsed) = drawn(load, load.seconds)?;
    let latencies = tally.latencies.borrow();
    Ok(Outcome {
        per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        max_us: latencies.max(),
        errors: tally.errors.get(),
    })
}

/// Keys at random, for this many seconds and until what is in flight is answered.
fn drawn(load: &Load, seconds: u64) -> Result<(Rc<Tally>, Duration)> {
    let random = Rc::new(Random::new(1));
    let keys = load.keys;
    let tally = run(load, Duration::from_secs(seconds), move || Some(random.below(keys)))?;
    let elapsed = tally.elapsed.get();
    Ok((tally, elapsed))
}

struct Tally {
    /// From the first request to the last reply.
    elapsed: Cell<Duration>,
    latencies: RefCell<Histogram<u64>>,
    errors: Cell<u64>,
}

fn run(load: &Load, length: Duration, key: impl Fn() -> Option<u64> + Clone + 'static) -> Result<Rc<Tally>> {
    let tally = Rc::new(Tally {
        elapsed: Cell::new(Duration::ZERO),
        latencies: RefCell::new(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?),
        errors: Cell::new(0),
    });
    let values = Rc::new(Values::new(load.value_bytes));
    let local = LocalSet::new();
    let told = tally.clone();
    local.block_on(&runtime()?, async move {
        let mut clients = Vec::new();
        for number in 0..load.connections {
            clients.push(Client::connect(&load.endpoints[number % load.endpoints.len()]).await?);
        }
        let start = Instant::now();
        let end = start + length;
        let mut tasks = Vec::new();
        for client in clients {
            for _ in 0..load.inflight {
                let (client, key) = (client.clone(), key.clone());
                let (values, told) = (values.clone(), told.clone());
                tasks.push(tokio::task::spawn_local(work(client, load.op, key, values, end, told)));
            }
        }
        for task in tasks {
            task.await?;
        }
        told.elapsed.set(start.elapsed());
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(tally)
}

/// One request after the other.
async fn work(
    mut client: Client,
    op: Op,
    key: impl Fn() -> Option<u64>,
    values: Rc<Values>,
    end: Instant,
    tally: Rc<Tally>,
) {
    while let Some(key) = key() {
        let start = Instant::now();
        if start >= end {
            return;
        }
        let key = format!("key:{key:012}").into_bytes();
        let done = match op {
            Op::Put => client.put(key, values.draw()).await,
            Op::Get => client.get(key, values.value_bytes).await,
        };
        match done {
            Ok(()) => tally.latencies.borrow_mut().saturating_record(start.elapsed().as_micros() as u64),
            Err(_) => tally.errors.set(tally.errors.get() + 1),
        }
    }
}

/// A connection of its own.
#[derive(Clone)]
struct Client(Grpc<Channel>);

impl Client {
    async fn connect(endpoint: &str) -> Result<Client> {
        let channel = Endpoint::from_shared(endpoint.to_string())?.tcp_nodelay(true).connect().await?;
        Ok(Client(Grpc::new(channel)))
    }

    async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let _: PutResponse = self.call(PutRequest { key, value }, path).await?;
        Ok(())
    }

    async fn get(&mut self, key: Vec<u8>, value_bytes: usize) -> Result<()> {
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
        let found: RangeResponse = self.call(RangeRequest { key }, path).await?;
        match found.kvs.first() {
            Some(found) if found.value.len() == value_bytes => Ok(()),
            _ => bail!("a key is missing"),
        }
    }

    async fn call<Request, Response>(&mut self, request: Request, path: PathAndQuery) -> Result<Response>
    where
        Request: prost::Message + 'static,
        Response: prost::Message + Default + 'static,
    {
        self.0.ready().await?;
        let codec = ProstCodec::<Request, Response>::default();
        Ok(self.0.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }
}

/// One thread, as `pontoon bench` has.
fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

struct Values {
    pool: Vec<u8>,
    value_bytes: usize,
    random: Random,
}

impl Values {
    fn new(value_bytes: usize) -> Values {
        let random = Random::new(0);
        let words = (VALUE_STARTS + value_bytes).div_ceil(8);
        Values { pool: (0..words).flat_map(|_| random.next().to_le_bytes()).collect(), value_bytes, random }
    }

    fn draw(&self) -> Vec<u8> {
        let start = self.random.below(VALUE_STARTS as u64) as usize;
        self.pool[start..start + self.value_bytes].to_vec()
    }
}

/// SplitMix64, as in `pontoon bench`.
struct Random(Cell<u64>);

impl Random {
    fn new(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
