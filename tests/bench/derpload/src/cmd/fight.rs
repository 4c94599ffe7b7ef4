//! `dupfight`: two clients of one key in turns, beside a pair that must not notice.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::clock::{self, MILLI, SECOND, seconds};
use crate::cmd::pairs;
use crate::conn::{End, Handler, Role};
use crate::hist::Hist;
use crate::net::Dial;
use crate::options::{Common, Options};
use crate::swarm::Swarm;
use crate::traffic::{Load, Pace, Traffic};
use crate::wire::{self, Identity, SEND_PACKET};

/// The two of one key, and the pair beside them.
struct Ring {
    traffic: Traffic,
    fighters: [Option<usize>; 2],
    arrived: Vec<usize>,
    logins: Hist,
    failed: BTreeMap<String, u64>,
}

impl Handler for Ring {
    fn open(&mut self, id: usize, age: u64) {
        self.logins.add(age);
        self.arrived.push(id);
    }

    fn frame(&mut self, id: usize, kind: u8, payload: &[u8], now: u64) {
        if !self.fighters.contains(&Some(id)) {
            self.traffic.frame(id, kind, payload, now);
        }
    }

    fn closed(&mut self, id: usize, end: End) {
        let Some(side) = self.fighters.iter().position(|&one| one == Some(id)) else {
            return self.traffic.closed(id, end);
        };
        self.fighters[side] = None;
        let reason = format!("{} in stage {}", end.why.name(), end.stage.name());
        *self.failed.entry(reason).or_default() += 1;
    }
}

impl Ring {
    /// One of the two leaves and comes back.
    fn round(
        &mut self,
        swarm: &mut Swarm,
        side: usize,
        common: &Common,
        identity: &Rc<Identity>,
    ) {
        if let Some(id) = self.fighters[side].take() {
            swarm.close(id);
            // Its id goes to the next, who must not speak before it has come in.
            self.arrived.retain(|&arrived| arrived != id);
        }
        match swarm.connect(Role::Client, &common.target, identity, Dial::default()) {
            Ok(id) => self.fighters[side] = Some(id),
            Err(error) => *self.failed.entry(error.to_string()).or_default() += 1,
        }
    }

    /// Whoever has come in speaks at once, to itself: that makes it the active one.
    fn speak(&mut self, swarm: &mut Swarm, identity: &Identity) {
        for id in self.arrived.drain(..) {
            if self.fighters.contains(&Some(id)) {
                swarm.write(id, |out| {
                    wire::frame_header(out, SEND_PACKET, 32 + 5);
                    out.extend_from_slice(&identity.public);
                    out.extend_from_slice(b"mine!");
                });
            }
        }
    }
}

/// `dupfight`.
pub fn dupfight(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let (pairs, rate) = (options.count("--pairs", 1)?, options.rate("--rate", 500.0)?);
    let reconnects = options.rate("--reconnects", 20.0)?;
    let size = options.size()?;
    let length = seconds(options.rate("--seconds", 10.0)?);
    options.finish()?;

    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    let targets = (&common.target, &common.other);
    let mut traffic =
        Traffic::connect(size, pairs, &mut swarm, targets, common.concurrency)?;
    traffic.wake();
    let mut load = Load::Paced(Pace::new(rate));
    pairs::run_for(&mut swarm, &mut traffic, &mut load, SECOND / 2)?;
    let alone =
        pairs::measure(&mut swarm, &mut traffic, &mut load, length, &common.watch)?;
    let files = common.watch.files();

    let mut ring = Ring {
        traffic,
        fighters: [None; 2],
        arrived: Vec::new(),
        logins: Hist::new(),
        failed: BTreeMap::new(),
    };
    let fought =
        fight(&mut swarm, &mut ring, &mut load, &common, (reconnects, length))?;
    ring.traffic.drain(&mut swarm)?;
    ring.fighters.iter_mut().filter_map(Option::take).for_each(|id| swarm.close(id));
    let settled = clock::now() + 2 * SECOND;
    while clock::now() < settled && common.watch.files() > files {
        let wake = clock::now() + 50 * MILLI;
        swarm.turn(wake, &mut ring.traffic).map_err(|error| error.to_string())?;
    }
    let leaked = common.watch.files() as i64 - files as i64;
    let p99 = |part: &Value| part["latency_us"]["p99"].as_f64();
    let ratio = p99(&fought).zip(p99(&alone)).map(|(with, without)| with / without);
    Ok(json!({
        "load": "dupfight",
        "ok": ring.traffic.ok() && ring.logins.total() > 0 && ring.failed.is_empty(),
        "reconnects_per_second": reconnects,
        "logins": ring.logins.total(), "login_ms": ring.logins.millis(),
        "failed": ring.failed, "leaked_files": leaked,
        "p99_ratio": ratio.map(|ratio| (ratio * 100.0).round() / 100.0),
        "lost_packets": ring.traffic.counts.sent - ring.traffic.counts.delivered,
        "alone": alone, "fought": fought, "third_party": ring.traffic.report(),
    }))
}

fn fight(
    swarm: &mut Swarm,
    ring: &mut Ring,
    load: &mut Load,
    common: &Common,
    (reconnects, length): (f64, u64),
) -> Result<Value, String> {
    let identity = Rc::new(Identity::random());
    let mut bell = Pace::new(reconnects);
    ring.traffic.restart_clocks();
    let (before, delivered) = (common.watch.sample()?, ring.traffic.counts.delivered);
    let end = clock::now() + length;
    while clock::now() < end {
        while bell.next() <= clock::now() {
            let side = bell.advance() as usize % 2;
            ring.round(swarm, side, common, &identity);
        }
        ring.speak(swarm, &identity);
        let wake = ring.traffic.step(swarm, load).min(bell.next()).min(end);
        swarm.turn(wake, ring).map_err(|error| error.to_string())?;
    }
    let delivered = ring.traffic.counts.delivered - delivered;
    let mut spent = common.watch.sample()?.since(&before, delivered);
    spent["delivered"] = json!(delivered);
    spent["latency_us"] = ring.traffic.latency.micros();
    Ok(spent)
}
