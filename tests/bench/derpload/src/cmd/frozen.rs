//! `frozen`: receivers that never read, flooded, beside clients that must not notice.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::clock::{self, SECOND, seconds};
use crate::cmd::pairs;
use crate::conn::{Conn, End, Handler};
use crate::diag::Diag;
use crate::hist::Hist;
use crate::net::Dial;
use crate::options::{Common, Options};
use crate::swarm::{Job, Swarm, connect_all};
use crate::traffic::{Load, Pace, Traffic};
use crate::wire::{self, PEER_GONE, RECV_PACKET, SEND_PACKET};

/// Receive buffer of a frozen client: small, so that it is full soon.
const BUFFER: i32 = 4096;
/// How often a socket of the relay is looked at.
const LOOK: u64 = SECOND / 10;
/// Parts of them, looked at one after the other.
const PARTS: usize = 20;

/// What becomes of the frozen, and the healthy beside them.
struct Scene {
    traffic: Traffic,
    frozen: HashMap<[u8; 32], usize>,
    frozen_ids: HashMap<usize, usize>,
    observer: usize,
    greeted: usize,
    flooded_since: u64,
    full: Vec<Fullness>,
    cut_at: Vec<Option<u64>>,
    senders_cut: u64,
    sender_ids: HashMap<usize, usize>,
}

impl Handler for Scene {
    fn frame(&mut self, id: usize, kind: u8, payload: &[u8], now: u64) {
        if id != self.observer {
            return self.traffic.frame(id, kind, payload, now);
        }
        if kind == RECV_PACKET {
            self.greeted += 1;
        } else if kind == PEER_GONE && payload.len() >= 32 {
            let key: [u8; 32] = payload[..32].try_into().expect("just measured");
            if let Some(&index) = self.frozen.get(&key) {
                self.cut_at[index].get_or_insert(now);
            }
        }
    }

    fn closed(&mut self, id: usize, end: End) {
        if let Some(&index) = self.frozen_ids.get(&id) {
            self.cut_at[index].get_or_insert(clock::now());
        } else if self.sender_ids.contains_key(&id) {
            self.senders_cut += 1;
        } else {
            self.traffic.closed(id, end);
        }
    }
}

/// The relay's socket towards one frozen client.
struct Fullness {
    remote: SocketAddr,
    queued: u32,
    /// When it last took anything.
    grew: u64,
}

impl Scene {
    /// Note which of a part of the relay's sockets have taken more since the last look.
    ///
    /// To ask for all of them at once would take a millisecond, and be found in the
    /// latencies of the healthy.
    fn look(
        &mut self,
        diag: Option<&Diag>,
        relay: SocketAddr,
        part: usize,
    ) -> Result<(), String> {
        let Some(diag) = diag else {
            return Ok(());
        };
        let sockets = self.full.iter_mut().zip(&self.cut_at);
        for (full, cut) in sockets.skip(part).step_by(PARTS) {
            if cut.is_some() {
                continue;
            }
            let now = clock::now();
            let queued =
                diag.send_queue(relay, full.remote).map_err(|e| e.to_string())?;
            if queued.is_some_and(|queued| queued > full.queued) {
                full.queued = queued.unwrap_or(0);
                full.grew = now;
            }
        }
        Ok(())
    }
}

fn gather(
    swarm: &mut Swarm,
    common: &Common,
    count: usize,
    dial: Dial,
) -> Result<(Vec<usize>, Vec<[u8; 32]>), String> {
    let job = || Job { dial, ..Job::new(&common.target) };
    let jobs: Vec<Job> = (0..count).map(|_| job()).collect();
    let ids = connect_all(swarm, &jobs, common.concurrency)?;
    Ok((ids, jobs.iter().map(|job| job.identity.public).collect()))
}

fn packet(swarm: &mut Swarm, from: usize, to: &[u8; 32], body: &[u8]) {
    swarm.write(from, |out| {
        wire::frame_header(out, SEND_PACKET, 32 + body.len());
        out.extend_from_slice(to);
        out.extend_from_slice(body);
    });
}

/// Have every frozen-to-be greet the observer, who is then told when it is gone.
fn greet(
    swarm: &mut Swarm,
    scene: &mut Scene,
    observer: &[u8; 32],
) -> Result<(), String> {
    let ids: Vec<usize> = scene.frozen_ids.keys().copied().collect();
    for &id in &ids {
        packet(swarm, id, observer, b"hello");
    }
    let limit = clock::now() + 5 * SECOND;
    while scene.greeted < ids.len() && clock::now() < limit {
        swarm.turn(limit, scene).map_err(|error| error.to_string())?;
    }
    if scene.greeted < ids.len() {
        return Err(format!(
            "only {} of {} greetings arrived",
            scene.greeted,
            ids.len()
        ));
    }
    ids.iter().try_for_each(|&id| swarm.freeze(id)).map_err(|error| error.to_string())
}

/// The flood: who sends, to whom, how fast.
struct Flood<'a> {
    senders: &'a [usize],
    victims: &'a [[u8; 32]],
    pace: Pace,
    body: Vec<u8>,
    sent: u64,
    refused: u64,
}

impl Flood<'_> {
    fn pour(&mut self, swarm: &mut Swarm, now: u64) {
        while self.pace.next() <= now {
            let turn = self.pace.advance() as usize;
            let sender = turn % self.senders.len();
            if swarm.has_room(self.senders[sender]) {
                let victim = &self.victims[sender % self.victims.len()];
                packet(swarm, self.senders[sender], victim, &self.body);
                self.sent += 1;
            } else {
                self.refused += 1;
            }
        }
    }
}

/// `frozen`.
pub fn frozen(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let frozen = options.count("--frozen", 100)?;
    let senders = options.count("--senders", 1000)?;
    let flood_rate = options.rate("--flood-rate", 20_000.0)?;
    let (pairs, rate) =
        (options.count("--pairs", 10)?, options.rate("--rate", 1000.0)?);
    let size = options.size()?;
    let length = seconds(options.rate("--seconds", 8.0)?);
    options.finish()?;

    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    let targets = (&common.target, &common.other);
    let mut traffic =
        Traffic::connect(size, pairs, &mut swarm, targets, common.concurrency)?;
    let (observer, observer_key) = gather(&mut swarm, &common, 1, Dial::default())?;
    let small = Dial { receive_buffer: BUFFER, ..Dial::default() };
    let (frozen_ids, victims) = gather(&mut swarm, &common, frozen, small)?;
    let (sender_ids, _) = gather(&mut swarm, &common, senders, Dial::default())?;

    traffic.wake();
    let mut load = Load::Paced(Pace::new(rate));
    pairs::run_for(&mut swarm, &mut traffic, &mut load, SECOND / 2)?;
    let alone =
        pairs::measure(&mut swarm, &mut traffic, &mut load, length, &common.watch)?;
    traffic.drain(&mut swarm)?;

    let index = |ids: &[usize]| ids.iter().copied().zip(0..).collect::<HashMap<_, _>>();
    let mut scene = Scene {
        traffic,
        frozen: victims.iter().copied().zip(0..).collect(),
        frozen_ids: index(&frozen_ids),
        observer: observer[0],
        greeted: 0,
        flooded_since: 0,
        full: Vec::new(),
        cut_at: vec![None; frozen],
        senders_cut: 0,
        sender_ids: index(&sender_ids),
    };
    greet(&mut swarm, &mut scene, &observer_key[0])?;
    for &id in &frozen_ids {
        let remote =
            swarm.get(id).map(Conn::local_address).ok_or("a frozen client is gone")?;
        let remote = remote.map_err(|error| error.to_string())?;
        scene.full.push(Fullness { remote, queued: 0, grew: clock::now() });
    }
    let mut flood = Flood {
        senders: &sender_ids,
        victims: &victims,
        pace: Pace::new(flood_rate),
        body: vec![0x5a; size],
        sent: 0,
        refused: 0,
    };
    let flooded = flooding(&mut swarm, &mut scene, &mut flood, rate, length, &common)?;
    scene.traffic.drain(&mut swarm)?;
    Ok(report(&scene, &flood, (frozen, senders, pairs), alone, flooded))
}

fn flooding(
    swarm: &mut Swarm,
    scene: &mut Scene,
    flood: &mut Flood,
    rate: f64,
    length: u64,
    common: &Common,
) -> Result<Value, String> {
    let mut load = Load::Paced(Pace::new(rate));
    scene.traffic.restart_clocks();
    let (before, delivered) = (common.watch.sample()?, scene.traffic.counts.delivered);
    let mut peak = before.rss_kib();
    // Where the kernel does not tell, only the time since the flood began is known.
    let diag = Diag::new().ok();
    let (mut looked, mut part) = (clock::now(), 0);
    scene.flooded_since = looked;
    let end = looked + length;
    while clock::now() < end {
        let now = clock::now();
        flood.pour(swarm, now);
        if now > looked + LOOK / PARTS as u64 {
            looked = now;
            scene.look(diag.as_ref(), common.target.address, part)?;
            part = (part + 1) % PARTS;
            if part == 0 {
                peak = peak.max(common.watch.rss_kib());
            }
        }
        let wake = scene.traffic.step(swarm, &mut load).min(flood.pace.next()).min(end);
        swarm.turn(wake, scene).map_err(|error| error.to_string())?;
    }
    let delivered = scene.traffic.counts.delivered - delivered;
    let mut spent = common.watch.sample()?.since(&before, delivered + flood.sent);
    spent["delivered"] = json!(delivered);
    spent["latency_us"] = scene.traffic.latency.micros();
    spent["rss_kib_peak"] = json!(peak);
    spent["rss_kib_growth"] = json!(peak.saturating_sub(before.rss_kib()));
    Ok(spent)
}

fn report(
    scene: &Scene,
    flood: &Flood,
    (frozen, senders, pairs): (usize, usize, usize),
    alone: Value,
    flooded: Value,
) -> Value {
    let (mut cut, mut after_full) = (Hist::new(), Hist::new());
    for (at, full) in scene.cut_at.iter().zip(&scene.full) {
        if let Some(at) = at {
            cut.add(at.saturating_sub(scene.flooded_since));
            if full.queued > 0 {
                after_full.add(at.saturating_sub(full.grew));
            }
        }
    }
    let queued = scene.full.iter().map(|full| full.queued).max();
    let p99 = |part: &Value| part["latency_us"]["p99"].as_f64();
    let ratio = p99(&flooded).zip(p99(&alone)).map(|(with, without)| with / without);
    json!({
        "load": "frozen",
        "ok": scene.traffic.ok() && cut.total() == frozen as u64,
        "frozen": frozen, "senders": senders, "healthy_pairs": pairs,
        "flood": {"sent": flood.sent, "refused": flood.refused,
                  "senders_cut": scene.senders_cut},
        "cut": cut.total(), "cut_after_ms": cut.millis(),
        "cut_after_full_ms": after_full.millis(), "most_queued_bytes": queued,
        "p99_ratio": ratio.map(|ratio| (ratio * 100.0).round() / 100.0),
        "alone": alone, "flooded": flooded,
        "healthy": scene.traffic.report(),
    })
}
