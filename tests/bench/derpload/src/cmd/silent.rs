//! `silent`, `halftls`, `drip`: connections that cost a relay and give it nothing.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::clock::{self, MILLI, SECOND, as_seconds, seconds};
use crate::cmd::handshakes;
use crate::conn::{End, Handler, Role, Stage};
use crate::hist::Hist;
use crate::net::Dial;
use crate::options::{Common, Options};
use crate::swarm::Swarm;
use crate::traffic::{Load, Pace, Traffic};
use crate::wire::Identity;

/// Ports that one source address is used for.
const PORTS: usize = 20_000;
/// How often memory is looked at for its peak.
const LOOK: u64 = 250 * MILLI;
/// What `drip` sends, one byte at a time; it never ends.
const HEAD: &[u8] = b"GET /derp HTTP/1.1\r\nHost: drip\r\nX-Drip: ";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Pair,
    Intruder,
    Probe,
}

/// Everything that is connected, told apart by id.
struct Scene {
    kinds: Vec<Kind>,
    traffic: Traffic,
    begun: u64,
    opened: u64,
    holding: u64,
    most: u64,
    refused: BTreeMap<String, u64>,
    closed: BTreeMap<String, u64>,
    closed_age: Hist,
    last_closed: u64,
    /// When the next byte is due, of which connection, and how many it has had.
    dripping: VecDeque<(u64, (usize, u32), usize)>,
    serials: Vec<u32>,
    probes_done: Vec<usize>,
    probe_times: Hist,
    probe_failed: BTreeMap<String, u64>,
}

impl Handler for Scene {
    fn open(&mut self, id: usize, age: u64) {
        match self.kind(id) {
            Kind::Pair => {}
            Kind::Probe => {
                self.probe_times.add(age);
                self.probes_done.push(id);
            }
            Kind::Intruder => {
                self.opened += 1;
                self.holding += 1;
                self.most = self.most.max(self.holding);
                self.dripping.push_back((clock::now(), (id, self.serials[id]), 0));
            }
        }
    }

    fn frame(&mut self, id: usize, kind: u8, payload: &[u8], now: u64) {
        if self.kind(id) == Kind::Pair {
            self.traffic.frame(id, kind, payload, now);
        }
    }

    fn closed(&mut self, id: usize, end: End) {
        let reason = format!("{} in stage {}", end.why.name(), end.stage.name());
        let counts = match (self.kind(id), end.stage) {
            (Kind::Pair, _) => return self.traffic.closed(id, end),
            (Kind::Probe, _) => &mut self.probe_failed,
            (Kind::Intruder, Stage::Mute) => {
                self.holding -= 1;
                self.closed_age.add(end.age);
                self.last_closed = clock::now();
                &mut self.closed
            }
            (Kind::Intruder, _) => &mut self.refused,
        };
        *counts.entry(reason).or_default() += 1;
    }
}

impl Scene {
    fn new(traffic: Traffic) -> Self {
        Self {
            kinds: Vec::new(),
            traffic,
            begun: clock::now(),
            opened: 0,
            holding: 0,
            most: 0,
            refused: BTreeMap::new(),
            closed: BTreeMap::new(),
            closed_age: Hist::new(),
            last_closed: 0,
            dripping: VecDeque::new(),
            serials: Vec::new(),
            probes_done: Vec::new(),
            probe_times: Hist::new(),
            probe_failed: BTreeMap::new(),
        }
    }

    /// Return what an id stands for; all that nobody named are of pairs.
    fn kind(&self, id: usize) -> Kind {
        self.kinds.get(id).copied().unwrap_or(Kind::Pair)
    }

    fn is(&mut self, id: usize, serial: u32, kind: Kind) {
        if id >= self.kinds.len() {
            self.kinds.resize(id + 1, Kind::Pair);
            self.serials.resize(id + 1, 0);
        }
        self.kinds[id] = kind;
        self.serials[id] = serial;
    }
}

/// What an intruder does, how often, for how long, and what runs beside it.
struct Plan {
    role: Role,
    count: usize,
    rate: f64,
    /// Nanoseconds in which to open connections.
    length: u64,
    /// Nanoseconds to go on looking.
    watch: u64,
    interval: u64,
    sources: usize,
    probe_rate: f64,
    healthy: usize,
    healthy_rate: f64,
}

fn plan(role: Role, options: &mut Options) -> Result<Plan, String> {
    let rate = options.rate("--rate", 1000.0)?;
    let length = seconds(options.rate("--seconds", 10.0)?);
    let most = (rate * as_seconds(length)).ceil() as usize;
    let count = options.get("--count", most)?;
    Ok(Plan {
        role,
        count,
        rate,
        length,
        watch: seconds(options.get("--watch", 40.0)?),
        interval: seconds(options.rate("--interval", 5.0)?),
        sources: options.get("--sources", count / PORTS + 1)?,
        probe_rate: options.get("--probe-rate", 0.0)?,
        healthy: options.get("--healthy", 0)?,
        healthy_rate: options.rate("--healthy-rate", 500.0)?,
    })
}

/// The clockwork of a run.
struct Run<'a> {
    common: &'a Common,
    plan: &'a Plan,
    nobody: Rc<Identity>,
    swarm: Swarm,
    scene: Scene,
    opening: Pace,
    asked: usize,
    starved: u64,
    probing: Option<Pace>,
    load: Load,
    looked: u64,
    rss: Vec<u64>,
}

impl Run<'_> {
    /// Open what is due.
    fn intrude(&mut self, now: u64) {
        while self.asked < self.plan.count && self.opening.next() <= now {
            self.opening.advance();
            self.asked += 1;
            let source = if self.plan.sources > 1 {
                self.asked % self.plan.sources + 1
            } else {
                0
            };
            let dial = Dial { source, ..Dial::default() };
            let target = &self.common.target;
            match self.swarm.connect(self.plan.role, target, &self.nobody, dial) {
                Ok(id) => self.name(id, Kind::Intruder),
                Err(_) => self.starved += 1,
            }
        }
    }

    fn name(&mut self, id: usize, kind: Kind) {
        let serial = self.swarm.get(id).map_or(0, |conn| conn.serial);
        self.scene.is(id, serial, kind);
    }

    /// Begin the real logins that are due, end those that are done.
    fn probe(&mut self, now: u64) {
        for id in std::mem::take(&mut self.scene.probes_done) {
            self.swarm.close(id);
        }
        while self.probing.as_ref().is_some_and(|pace| pace.next() <= now) {
            self.probing.as_mut().expect("just looked").advance();
            let identity = Rc::new(Identity::random());
            let dial = Dial::default();
            match self.swarm.connect(Role::Client, &self.common.target, &identity, dial)
            {
                Ok(id) => self.name(id, Kind::Probe),
                Err(_) => self.starved += 1,
            }
        }
    }

    /// Send the next byte of each head that is due.
    fn drip(&mut self, now: u64) {
        if self.plan.role != Role::Drip {
            return self.scene.dripping.clear();
        }
        while let Some(&(due, (id, serial), sent)) = self.scene.dripping.front() {
            if due > now {
                return;
            }
            self.scene.dripping.pop_front();
            // The id may belong to another by now: a login that must not be harmed.
            if self.swarm.get(id).is_some_and(|conn| conn.serial == serial) {
                let byte = HEAD.get(sent).copied().unwrap_or(b'a');
                self.swarm.write(id, |out| out.push(byte));
                let next = (due + self.plan.interval, (id, serial), sent + 1);
                self.scene.dripping.push_back(next);
            }
        }
    }

    fn look(&mut self, now: u64) {
        if now >= self.looked + LOOK {
            self.looked = now;
            self.rss.push(self.common.watch.rss_kib());
        }
    }

    fn turn(&mut self, end: u64) -> Result<(), String> {
        let now = clock::now();
        self.intrude(now);
        self.probe(now);
        self.drip(now);
        self.look(now);
        let mut wake =
            self.scene.traffic.step(&mut self.swarm, &mut self.load).min(end);
        if self.asked < self.plan.count {
            wake = wake.min(self.opening.next());
        }
        let probe = self.probing.as_ref().map_or(u64::MAX, Pace::next);
        let wake = wake.min(probe).min(now + 20 * MILLI);
        self.swarm.turn(wake, &mut self.scene).map_err(|error| error.to_string())
    }

    fn until(&mut self, end: u64) -> Result<(), String> {
        while clock::now() < end {
            self.turn(end)?;
        }
        Ok(())
    }
}

/// `silent`, `halftls` and `drip`, by role.
pub fn intrude(role: Role, mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let plan = plan(role, &mut options)?;
    options.finish()?;
    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    handshakes::warm_up(&mut swarm, &common, 50)?;
    let targets = (&common.target, &common.other);
    let mut traffic =
        Traffic::connect(200, plan.healthy, &mut swarm, targets, common.concurrency)?;
    traffic.wake();
    let paced = |rate: f64| (rate > 0.0).then(|| Pace::new(rate));
    let load = match plan.healthy {
        0 => Load::Idle,
        _ => Load::Paced(Pace::new(plan.healthy_rate)),
    };
    let before = common.watch.sample()?;
    let mut run = Run {
        common: &common,
        plan: &plan,
        nobody: Rc::new(Identity::random()),
        scene: Scene::new(traffic),
        swarm,
        opening: Pace::new(plan.rate),
        asked: 0,
        starved: 0,
        probing: paced(plan.probe_rate),
        load,
        looked: 0,
        rss: vec![before.rss_kib()],
    };
    let begun = run.scene.begun;
    run.until(begun + plan.length)?;
    run.until(clock::now() + SECOND / 2)?;
    let (full, held) = (common.watch.sample()?, run.scene.holding);
    run.until(begun + plan.length + plan.watch)?;
    run.load = Load::Idle;
    run.probing = None;
    run.until(clock::now() + SECOND / 2)?;
    let spent = common.watch.sample()?.since(&before, run.scene.opened);
    let grown = full.rss_kib().saturating_sub(before.rss_kib());
    let each = (held > 0).then(|| (grown as f64 / held as f64 * 100.0).round() / 100.0);
    let rss = json!({"before": before.rss_kib(), "open": full.rss_kib(),
                     "peak": run.rss.iter().max(), "end": run.common.watch.rss_kib(),
                     "each": each});
    Ok(report(&run, held, rss, spent))
}

fn report(run: &Run, held: u64, rss: Value, spent: Value) -> Value {
    let (scene, plan) = (&run.scene, run.plan);
    let lost = scene.traffic.counts.sent - scene.traffic.counts.delivered;
    let load = match plan.role {
        Role::HalfTls => "halftls",
        Role::Drip => "drip",
        Role::Silent | Role::Client => "silent",
    };
    let closed = scene.closed_age.total();
    let carried = plan.healthy == 0 || scene.traffic.counts.delivered > 0;
    let last = (closed > 0).then(|| as_seconds(scene.last_closed - scene.begun));
    json!({
        "load": load,
        "ok": scene.traffic.ok() && scene.opened > 0 && run.starved == 0 && carried,
        "asked": run.asked, "starved": run.starved, "opened": scene.opened,
        "refused": scene.refused, "most_open": scene.most, "open_after_rise": held,
        "closed": closed, "closed_how": scene.closed, "closed_age_ms": scene.closed_age.millis(),
        "last_closed_s": last, "still_open": scene.holding,
        "rss_kib": rss,
        "probe": {"logins": scene.probe_times.total(), "failed": scene.probe_failed,
                  "login_ms": scene.probe_times.millis()},
        "healthy": {"pairs": plan.healthy, "lost_packets": lost,
                    "latency_us": scene.traffic.latency.micros(),
                    "traffic": scene.traffic.report()},
        "measured": spent,
    })
}
