//! `idle`: many clients that hold, of which random ones must still relay.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::clock::{self, SECOND, seconds};
use crate::cmd::handshakes;
use crate::conn::{End, Handler, Target};
use crate::options::Options;
use crate::proc::Sample;
use crate::swarm::{Job, Swarm, connect_all};
use crate::traffic::{Load, Traffic};
use crate::wire;

/// Size of a packet of a check.
const CHECK_SIZE: usize = 200;

/// Clients that hold, with their keys.
pub struct Crowd {
    /// Connection of each client.
    pub ids: Vec<usize>,
    /// Key of each client.
    pub keys: Vec<[u8; 32]>,
    cut: u64,
    first_cut: Option<String>,
}

impl Handler for Crowd {
    fn closed(&mut self, _id: usize, end: End) {
        self.cut += 1;
        self.first_cut.get_or_insert_with(|| end.why.name());
    }
}

/// Return a number below `limit`.
pub fn below(limit: usize) -> usize {
    (u64::from_le_bytes(wire::random()) % limit as u64) as usize
}

impl Crowd {
    /// Connect so many clients.
    pub fn gather(
        swarm: &mut Swarm,
        target: &Rc<Target>,
        count: usize,
        concurrency: usize,
    ) -> Result<Self, String> {
        let jobs: Vec<Job> = (0..count).map(|_| Job::new(target)).collect();
        let ids = connect_all(swarm, &jobs, concurrency)?;
        let keys = jobs.iter().map(|job| job.identity.public).collect();
        Ok(Self::of(ids, keys))
    }

    /// Take clients that are connected already.
    pub fn of(ids: Vec<usize>, keys: Vec<[u8; 32]>) -> Self {
        Self { ids, keys, cut: 0, first_cut: None }
    }

    /// Send one packet between each of so many random pairs; describe what arrived.
    pub fn check(&self, swarm: &mut Swarm, pairs: usize) -> Result<Value, String> {
        let mut traffic = Traffic::new(CHECK_SIZE);
        for _ in 0..pairs {
            let from = below(self.ids.len());
            let to = (from + 1 + below(self.ids.len() - 1)) % self.ids.len();
            traffic
                .add((self.ids[from], self.ids[to]), (self.keys[from], self.keys[to]));
        }
        traffic.wake();
        traffic.step(swarm, &mut Load::Window(1));
        traffic.drain(swarm)?;
        Ok(
            json!({"event": "relay", "asked": pairs, "delivered": traffic.counts.delivered,
                  "ok": traffic.ok() && traffic.counts.delivered == pairs as u64,
                  "latency_us": traffic.latency.micros(), "faults": traffic.report()}),
        )
    }

    fn hold_until_told(&mut self, swarm: &mut Swarm) -> Result<(), String> {
        swarm.turn(clock::now() + SECOND, self).map_err(|error| error.to_string())
    }

    fn hold(&mut self, swarm: &mut Swarm, duration: u64) -> Result<(), String> {
        let end = clock::now() + duration;
        while clock::now() < end {
            swarm.turn(end, self).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Print one line for whoever drives an interactive load.
pub fn announce(event: &Value) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Whoever does not listen does not want it.
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}

/// `idle`.
pub fn idle(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let count = options.count("--clients", 1000)?.max(2);
    let warmup: usize = options.get("--warmup-count", 50)?;
    let check: usize = options.get("--check", 100)?;
    let settle = seconds(options.get("--settle", 2.0)?);
    options.finish()?;

    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    swarm.watch_stdin().map_err(|error| error.to_string())?;
    handshakes::warm_up(&mut swarm, &common, warmup)?;
    let before = common.watch.sample()?;
    let begun = clock::now();
    let mut crowd =
        Crowd::gather(&mut swarm, &common.target, count, common.concurrency)?;
    let took = clock::as_seconds(clock::now() - begun);
    crowd.hold(&mut swarm, settle)?;
    let after = common.watch.sample()?;
    let memory = memory(&before, &after, count);
    announce(&json!({"event": "ready", "clients": count, "connect_s": took,
                     "memory": memory}));
    let mut checks = Vec::new();
    if check > 0 {
        checks.push(crowd.check(&mut swarm, check)?);
        announce(&checks[0]);
    }
    let held = common.watch.sample()?;
    while !swarm.stdin_ended || !swarm.lines.is_empty() {
        if let Some(line) = swarm.lines.pop_front() {
            let answer = obey(&line, &crowd, &mut swarm, &common.watch.sample()?)?;
            announce(&answer);
            checks.push(answer);
        } else {
            crowd.hold_until_told(&mut swarm)?;
        }
    }
    let spent = common.watch.sample()?.since(&held, 0);
    let ok = crowd.cut == 0 && checks.iter().all(|check| check["ok"] != json!(false));
    Ok(json!({"load": "idle", "ok": ok, "clients": count, "tls": !common.target.plain,
              "connect_s": took, "memory": memory, "checks": checks, "held": spent,
              "cut": crowd.cut, "first_cut": crowd.first_cut}))
}

fn memory(before: &Sample, after: &Sample, count: usize) -> Value {
    let (before, after) = (before.rss_kib(), after.rss_kib());
    let each = after.saturating_sub(before) as f64 / count as f64;
    json!({"rss_kib_before": before, "rss_kib": after,
           "rss_kib_each": (each * 100.0).round() / 100.0})
}

fn obey(
    line: &str,
    crowd: &Crowd,
    swarm: &mut Swarm,
    now: &Sample,
) -> Result<Value, String> {
    let mut words = line.split_whitespace();
    match (words.next(), words.next().map_or(Ok(100), str::parse)) {
        (Some("relay"), Ok(pairs)) => crowd.check(swarm, pairs),
        (Some("rss"), _) => Ok(json!({"event": "rss", "rss_kib": now.rss_kib()})),
        _ => Ok(json!({"event": "error", "line": line, "know": ["relay [N]", "rss"]})),
    }
}
