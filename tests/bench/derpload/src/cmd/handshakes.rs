//! `handshakes`: full connects, TCP to ServerInfo, then a polite close.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::clock::{self, MILLI, SECOND, as_seconds, seconds};
use crate::conn::{End, Handler, Role, Target};
use crate::hist::Hist;
use crate::net::Dial;
use crate::options::{Common, Options};
use crate::swarm::Swarm;
use crate::wire::Identity;

#[derive(Default)]
struct Logins {
    done: Vec<usize>,
    times: Option<Hist>,
    failed: u64,
    reasons: BTreeMap<String, u64>,
}

impl Handler for Logins {
    fn open(&mut self, id: usize, age: u64) {
        self.done.push(id);
        if let Some(times) = &mut self.times {
            times.add(age);
        }
    }

    fn closed(&mut self, _id: usize, end: End) {
        self.failed += 1;
        let reason = format!("{} in stage {}", end.why.name(), end.stage.name());
        *self.reasons.entry(reason).or_default() += 1;
    }
}

/// Log all of them in and out, so many at a time.
fn churn(
    swarm: &mut Swarm,
    target: &Rc<Target>,
    identities: &[Rc<Identity>],
    concurrency: usize,
    logins: &mut Logins,
) -> Result<(), String> {
    let mut waiting = identities.iter().peekable();
    while waiting.peek().is_some() || swarm.count > 0 {
        while swarm.count < concurrency {
            let Some(identity) = waiting.next() else {
                break;
            };
            let begun = swarm.connect(Role::Client, target, identity, Dial::default());
            begun.map_err(|error| error.to_string())?;
        }
        let until = clock::now() + SECOND;
        swarm.turn(until, logins).map_err(|error| error.to_string())?;
        for id in logins.done.drain(..) {
            swarm.close(id);
        }
    }
    Ok(())
}

/// Log some in and out, so that what a relay makes once is made.
pub fn warm_up(swarm: &mut Swarm, common: &Common, count: usize) -> Result<(), String> {
    let identities: Vec<Rc<Identity>> =
        (0..count).map(|_| Rc::new(Identity::random())).collect();
    let mut logins = Logins::default();
    churn(swarm, &common.target, &identities, common.concurrency, &mut logins)?;
    std::thread::sleep(std::time::Duration::from_nanos(200 * MILLI));
    match logins.reasons.keys().next() {
        None => Ok(()),
        Some(reason) => Err(format!("a client could not connect: {reason}")),
    }
}

/// `handshakes`.
pub fn handshakes(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let count = options.count("--count", 1000)?;
    let warmup: usize = options.get("--warmup-count", 50)?;
    let settle = seconds(options.get("--settle", 0.3)?);
    options.finish()?;

    let identities: Vec<Rc<Identity>> =
        (0..count).map(|_| Rc::new(Identity::random())).collect();
    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    warm_up(&mut swarm, &common, warmup)?;
    let mut logins = Logins { times: Some(Hist::new()), ..Logins::default() };
    let sample = common.watch.sample()?;
    let begun = clock::now();
    churn(&mut swarm, &common.target, &identities, common.concurrency, &mut logins)?;
    let took = as_seconds(clock::now() - begun);
    let own = common.watch.sample()?.since(&sample, count as u64);
    // What the relay still does for closed connections belongs to their price.
    std::thread::sleep(std::time::Duration::from_nanos(settle));
    let mut measured = common.watch.sample()?.since(&sample, count as u64);
    measured["generator"] = own["generator"].clone();
    measured["per_second"] =
        json!(((count as u64 - logins.failed) as f64 / took).round());
    measured["login_ms"] = logins.times.map_or(Value::Null, |times| times.millis());
    Ok(json!({
        "load": "handshakes",
        "ok": logins.failed == 0,
        "count": count, "concurrency": common.concurrency, "tls": !common.target.plain,
        "fast_start": common.target.fast_start,
        "failed": logins.failed, "reasons": logins.reasons,
        "measured": measured,
    }))
}
