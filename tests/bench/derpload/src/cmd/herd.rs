//! `herd`: many clients cut at once, each coming back as Go's client does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::clock::{self, MILLI, SECOND, as_seconds, seconds};
use crate::cmd::crowd::{Crowd, announce, below};
use crate::conn::{End, Handler, Role, Stage, Target};
use crate::hist::Hist;
use crate::net::Dial;
use crate::options::Options;
use crate::swarm::{Job, Swarm, connect_all};
use crate::wire::Identity;

/// The longest back-off, before its jitter. Source: magicsock/derp.go, runDerpReader.
const LONGEST_BACKOFF: u64 = 5 * SECOND;

/// Return the n-th pause of Go's client: n² × 10 ms, capped, times 0.5 to 1.5.
///
/// Source: util/backoff/backoff.go, BackOff.
pub fn backoff(failures: u64) -> u64 {
    let pause = (failures * failures * 10 * MILLI).min(LONGEST_BACKOFF);
    pause / 2 + below(pause as usize) as u64
}

struct Client {
    identity: Rc<Identity>,
    id: usize,
    failures: u64,
    attempts: u64,
    cut_at: Option<u64>,
}

/// All clients, and when each tries again.
struct Herd {
    clients: Vec<Client>,
    by_id: Vec<usize>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    away: usize,
    first_cut: Option<u64>,
    back: Hist,
    in_handshake: Hist,
    attempts: Hist,
    failed: BTreeMap<String, u64>,
}

impl Handler for Herd {
    fn open(&mut self, id: usize, age: u64) {
        let client = &mut self.clients[self.by_id[id]];
        client.failures = 0;
        self.in_handshake.add(age);
        if let Some(cut_at) = client.cut_at.take() {
            self.away -= 1;
            self.back.add(clock::now() - cut_at);
            self.attempts.add(client.attempts);
        }
    }

    fn closed(&mut self, id: usize, end: End) {
        let index = self.by_id[id];
        if end.stage == Stage::Open {
            self.left(index);
        } else {
            self.in_handshake.add(end.age);
            self.failed(
                index,
                format!("{} in stage {}", end.why.name(), end.stage.name()),
            );
        }
    }
}

impl Herd {
    fn new(jobs: Vec<Job>, ids: &[usize]) -> Self {
        let clients: Vec<Client> = jobs
            .into_iter()
            .zip(ids)
            .map(|(job, &id)| Client {
                identity: job.identity,
                id,
                failures: 0,
                attempts: 0,
                cut_at: None,
            })
            .collect();
        let mut herd = Self {
            clients,
            by_id: Vec::new(),
            due: BinaryHeap::new(),
            away: 0,
            first_cut: None,
            back: Hist::new(),
            in_handshake: Hist::new(),
            attempts: Hist::new(),
            failed: BTreeMap::new(),
        };
        for (index, &id) in ids.iter().enumerate() {
            herd.belongs(id, index);
        }
        herd
    }

    fn belongs(&mut self, id: usize, index: usize) {
        if id >= self.by_id.len() {
            self.by_id.resize(id + 1, usize::MAX);
        }
        self.by_id[id] = index;
    }

    /// A client lost its connection; it comes back after the first pause.
    fn left(&mut self, index: usize) {
        let now = clock::now();
        let client = &mut self.clients[index];
        client.cut_at = Some(now);
        client.attempts = 0;
        client.failures = 1;
        self.away += 1;
        self.first_cut.get_or_insert(now);
        self.due.push(Reverse((now + backoff(1), index)));
    }

    fn failed(&mut self, index: usize, reason: String) {
        *self.failed.entry(reason).or_default() += 1;
        self.clients[index].failures += 1;
        let pause = backoff(self.clients[index].failures);
        self.due.push(Reverse((clock::now() + pause, index)));
    }

    fn retry_due(&mut self, swarm: &mut Swarm, target: &Rc<Target>) {
        let now = clock::now();
        while let Some(&Reverse((due, index))) = self.due.peek() {
            if due > now {
                return;
            }
            self.due.pop();
            let client = &mut self.clients[index];
            client.attempts += 1;
            match swarm.connect(Role::Client, target, &client.identity, Dial::default())
            {
                Err(error) => self.failed(index, error.to_string()),
                Ok(id) => {
                    client.id = id;
                    self.belongs(id, index);
                }
            }
        }
    }

    fn next(&self) -> u64 {
        let soon = clock::now() + 100 * MILLI;
        self.due.peek().map_or(soon, |first| first.0.0.min(soon))
    }

    fn cut_all(&mut self, swarm: &mut Swarm) {
        for index in 0..self.clients.len() {
            if self.clients[index].cut_at.is_none() {
                swarm.reset(self.clients[index].id);
                self.left(index);
            }
        }
    }
}

/// `herd`.
pub fn herd(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let count = options.count("--clients", 1000)?.max(2);
    let limit = seconds(options.get("--limit", 60.0)?);
    let cut_after: Option<f64> = options.optional("--cut-after")?;
    let check: usize = options.get("--check", 100)?;
    options.finish()?;

    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    swarm.watch_stdin().map_err(|error| error.to_string())?;
    let jobs: Vec<Job> = (0..count).map(|_| Job::new(&common.target)).collect();
    let ids = connect_all(&mut swarm, &jobs, common.concurrency)?;
    let mut herd = Herd::new(jobs, &ids);
    announce(&json!({"event": "ready", "clients": count}));

    let cut_at = cut_after.map(|after| clock::now() + seconds(after));
    let mut waiting = true;
    let mut books = common.watch.sample().ok();
    loop {
        let now = clock::now();
        let told = swarm.lines.pop_front().is_some_and(|line| line == "cut");
        if waiting && (told || cut_at.is_some_and(|at| now >= at)) {
            books = common.watch.sample().ok();
            herd.cut_all(&mut swarm);
        }
        waiting &= herd.first_cut.is_none();
        let over = herd.first_cut.is_some_and(|first| now > first + limit);
        let nobody_speaks = swarm.stdin_ended && cut_at.is_none() && waiting;
        let all_back = !waiting && herd.away == 0;
        if over || nobody_speaks || all_back {
            break;
        }
        herd.retry_due(&mut swarm, &common.other);
        let until = cut_at.filter(|_| waiting).unwrap_or(u64::MAX).min(herd.next());
        swarm.turn(until, &mut herd).map_err(|error| error.to_string())?;
    }
    let spent =
        books.and_then(|books| Some(common.watch.sample().ok()?.since(&books, 0)));
    report(&herd, &mut swarm, check, spent)
}

fn report(
    herd: &Herd,
    swarm: &mut Swarm,
    check: usize,
    spent: Option<Value>,
) -> Result<Value, String> {
    let relayed = if check > 0 && herd.away == 0 {
        let ids = herd.clients.iter().map(|client| client.id).collect();
        let keys = herd.clients.iter().map(|client| client.identity.public).collect();
        Crowd::of(ids, keys).check(swarm, check)?
    } else {
        Value::Null
    };
    let ok =
        herd.first_cut.is_some() && herd.away == 0 && relayed["ok"] != json!(false);
    let tries = |share| herd.attempts.quantile(share);
    let took = herd.first_cut.map(|first| as_seconds(clock::now() - first));
    Ok(json!({
        "load": "herd", "ok": ok, "clients": herd.clients.len(), "still_away": herd.away,
        "was_cut": herd.first_cut.is_some(),
        "all_back_s": if ok { herd.back.quantile(1.0) as f64 / 1e9 } else { f64::NAN },
        "took_s": took,
        "back_ms": herd.back.millis(),
        "attempts_each": {"p50": tries(0.5), "p99": tries(0.99), "max": tries(1.0)},
        "in_handshake_ms": herd.in_handshake.millis(),
        "longest_in_handshake_s": herd.in_handshake.quantile(1.0) as f64 / 1e9,
        "failed_attempts": herd.failed,
        "relay_check": relayed,
        "measured": spent,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_square_and_stay_under_seven_and_a_half_seconds() {
        for n in 1..100_u64 {
            let base = (n * n * 10 * MILLI).min(LONGEST_BACKOFF);
            let pause = backoff(n);
            assert!(pause >= base / 2 && pause <= base * 3 / 2, "{n}: {pause}");
        }
    }
}
