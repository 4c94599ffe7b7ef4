//! `roam`: clients of a region of several nodes, each finding one as Go's client does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::clock::{self, MILLI, as_seconds, seconds};
use crate::cmd::crowd::{Crowd, announce};
use crate::cmd::herd::backoff;
use crate::conn::{End, Handler, Role, Stage, Target};
use crate::hist::Hist;
use crate::net::Dial;
use crate::options::Options;
use crate::proc::Sample;
use crate::swarm::{Job, Swarm, connect_all};
use crate::traffic::{Load, NOBODY, Pace, Traffic};
use crate::wire::{Identity, RECV_PACKET};

/// Time that one node has to take a TCP connection, before the next one is tried.
///
/// Source: derphttp_client.go, dialNodeTimeout.
const TCP_LIMIT: u64 = 1500 * MILLI;
/// Size of the packets between pairs.
const SIZE: usize = 200;
/// Time before a cut within which a packet may still have been under way.
const UNDER_WAY: u64 = 250 * MILLI;
/// Time until every node must know where a client that came back is.
const KNOWN: u64 = 1000 * MILLI;

/// One client: where it is, or how far it got on its way there.
struct Client {
    identity: Rc<Identity>,
    id: usize,
    /// The node that it is on, or tries.
    node: usize,
    /// Tells one dial of it from the next.
    dial: u64,
    failures: u64,
    away_since: Option<u64>,
    /// All the time that it had no connection.
    away: u64,
    cuts: u64,
    /// When it lost its connection, and when it had another one.
    absences: Vec<(u64, u64)>,
    heard: Option<u64>,
    silence: u64,
}

/// All clients, the nodes of their map in its order, and when each tries again.
struct Roamers {
    nodes: Vec<Rc<Target>>,
    clients: Vec<Client>,
    by_id: Vec<usize>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    dials: VecDeque<(u64, usize, u64)>,
    traffic: Traffic,
    /// For each pair, the numbers of the packets that came, and when they were due.
    came: Vec<Vec<(u64, u64)>>,
    began: u64,
    pairs: usize,
    away: usize,
    first_cut: Option<u64>,
    last_back: Option<u64>,
    gaps: Hist,
    passed_over: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
}

impl Handler for Roamers {
    fn open(&mut self, id: usize, _age: u64) {
        let (index, now) = (self.by_id[id], clock::now());
        let client = &mut self.clients[index];
        client.failures = 0;
        if let Some(since) = client.away_since.take() {
            client.away += now - since;
            client.absences.push((since, now));
            self.gaps.add(now - since);
            self.away -= 1;
            self.last_back = Some(now);
        }
        self.settle(index, id);
    }

    fn frame(&mut self, id: usize, kind: u8, payload: &[u8], now: u64) {
        if kind == RECV_PACKET {
            let client = &mut self.clients[self.by_id[id]];
            let silence = client.heard.map_or(0, |before| now.saturating_sub(before));
            client.silence = client.silence.max(silence);
            client.heard = Some(now);
            if let Some((flow, sequence, due)) = self.traffic.label(payload) {
                self.came[flow].push((sequence, due));
            }
        }
        self.traffic.frame(id, kind, payload, now);
    }

    fn closed(&mut self, id: usize, end: End) {
        let index = self.by_id[id];
        let reason = || format!("{} in stage {}", end.why.name(), end.stage.name());
        match end.stage {
            Stage::Open => self.left(index),
            Stage::Connecting => self.next_node(index, &end.why.name()),
            _ => self.failed(index, reason()),
        }
    }
}

impl Roamers {
    /// Two clients make a pair, as long as there are pairs to make.
    fn new(nodes: Vec<Rc<Target>>, count: usize, pairs: usize) -> Self {
        let client = |index| Client {
            identity: Rc::new(Identity::random()),
            id: NOBODY,
            node: first_node(index, pairs, nodes.len()),
            dial: 0,
            failures: 0,
            away_since: None,
            away: 0,
            cuts: 0,
            absences: Vec::new(),
            heard: None,
            silence: 0,
        };
        let clients: Vec<Client> = (0..count).map(client).collect();
        let mut traffic = Traffic::new(SIZE);
        for pair in clients.chunks(2).take(pairs) {
            let keys = (pair[0].identity.public, pair[1].identity.public);
            traffic.add((NOBODY, NOBODY), keys);
        }
        Self {
            nodes,
            clients,
            by_id: Vec::new(),
            due: BinaryHeap::new(),
            dials: VecDeque::new(),
            traffic,
            came: vec![Vec::new(); pairs],
            began: clock::now(),
            pairs,
            away: 0,
            first_cut: None,
            last_back: None,
            gaps: Hist::new(),
            passed_over: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Bring all to where they begin.
    fn gather(&mut self, swarm: &mut Swarm, concurrency: usize) -> Result<(), String> {
        let job = |client: &Client| Job {
            target: self.nodes[client.node].clone(),
            identity: client.identity.clone(),
            dial: Dial::default(),
        };
        let jobs: Vec<Job> = self.clients.iter().map(job).collect();
        for (index, id) in
            connect_all(swarm, &jobs, concurrency)?.into_iter().enumerate()
        {
            self.belongs(id, index);
            self.settle(index, id);
        }
        Ok(())
    }

    fn belongs(&mut self, id: usize, index: usize) {
        if id >= self.by_id.len() {
            self.by_id.resize(id + 1, usize::MAX);
        }
        self.by_id[id] = index;
        self.clients[index].id = id;
    }

    /// Packets of a client leave by this connection, and are looked for there.
    fn settle(&mut self, index: usize, id: usize) {
        if index < 2 * self.pairs {
            self.traffic.rehome(index / 2, index % 2 == 0, id);
        }
    }

    /// A client lost its connection; it comes back after the first pause.
    fn left(&mut self, index: usize) {
        let now = clock::now();
        self.settle(index, NOBODY);
        let client = &mut self.clients[index];
        client.away_since = Some(now);
        client.cuts += 1;
        self.away += 1;
        self.first_cut.get_or_insert(now);
        self.again(index);
    }

    /// A node takes no TCP connection: that moves a client on, and nothing else does.
    fn next_node(&mut self, index: usize, reason: &str) {
        *self.passed_over.entry(reason.to_owned()).or_default() += 1;
        let client = &mut self.clients[index];
        client.node += 1;
        if client.node < self.nodes.len() {
            self.due.push(Reverse((clock::now(), index)));
        } else {
            self.failed(index, format!("{reason} by every node"));
        }
    }

    /// A client was taken by no node.
    fn failed(&mut self, index: usize, reason: String) {
        *self.failed.entry(reason).or_default() += 1;
        self.again(index);
    }

    fn again(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.node = 0;
        client.failures += 1;
        let pause = backoff(client.failures);
        self.due.push(Reverse((clock::now() + pause, index)));
    }

    fn dial_due(&mut self, swarm: &mut Swarm) {
        let now = clock::now();
        while let Some(&Reverse((due, index))) = self.due.peek() {
            if due > now {
                return;
            }
            self.due.pop();
            let client = &mut self.clients[index];
            client.dial += 1;
            self.dials.push_back((now + TCP_LIMIT, index, client.dial));
            let target = &self.nodes[client.node];
            match swarm.connect(Role::Client, target, &client.identity, Dial::default())
            {
                Err(error) => self.next_node(index, &error.to_string()),
                Ok(id) => self.belongs(id, index),
            }
        }
    }

    fn give_up_dials(&mut self, swarm: &mut Swarm) {
        let now = clock::now();
        while self.dials.front().is_some_and(|first| first.0 <= now) {
            let (_, index, dial) = self.dials.pop_front().expect("just looked");
            let client = &self.clients[index];
            let (same, id) = (client.dial == dial, client.id);
            let is_ours = self.by_id.get(id) == Some(&index);
            let waits = swarm.get(id).is_some_and(|c| c.stage() == Stage::Connecting);
            if same && is_ours && waits {
                swarm.reset(id);
                self.next_node(index, "timeout");
            }
        }
    }

    fn turn(&mut self, swarm: &mut Swarm, until: u64) -> Result<(), String> {
        self.give_up_dials(swarm);
        self.dial_due(swarm);
        let due = self.due.peek().map_or(u64::MAX, |first| first.0.0);
        let limit = self.dials.front().map_or(u64::MAX, |first| first.0);
        let until = until.min(due).min(limit);
        swarm.turn(until, self).map_err(|error| error.to_string())
    }

    /// Wait for what is under way between pairs.
    fn finish(&mut self, swarm: &mut Swarm) -> Result<(), String> {
        let (mut last, mut delivered) = (clock::now(), self.traffic.counts.delivered);
        while self.traffic.in_flight() > 0 && clock::now() < last + 2 * UNDER_WAY {
            self.turn(swarm, clock::now() + 10 * MILLI)?;
            if self.traffic.counts.delivered > delivered {
                (last, delivered) = (clock::now(), self.traffic.counts.delivered);
            }
        }
        Ok(())
    }

    /// Count the lost packets that no reconnect accounts for.
    ///
    /// One costs its client what was under way when it was cut; a receiver also what is
    /// sent to it until it is back and known again. A sender that is away sends nothing.
    fn unexplained(&self) -> u64 {
        let now = clock::now();
        (0..self.pairs)
            .flat_map(|pair| {
                let sent = self.traffic.sent(pair);
                missing(&self.came[pair], (self.began, sent, now))
                    .into_iter()
                    .map(move |due| (pair, due))
            })
            .filter(|&(pair, due)| {
                let (sender, receiver) =
                    (&self.clients[2 * pair], &self.clients[2 * pair + 1]);
                !is_explained(due, &sender.absences, &receiver.absences)
            })
            .count() as u64
    }

    /// How many clients are on each node, by address.
    fn places(&self) -> BTreeMap<String, usize> {
        let mut places: BTreeMap<String, usize> =
            self.nodes.iter().map(|node| (node.address.to_string(), 0)).collect();
        for client in self.clients.iter().filter(|one| one.away_since.is_none()) {
            let address = self.nodes[client.node].address.to_string();
            *places.entry(address).or_default() += 1;
        }
        places
    }
}

/// Whether a packet may be lost, by when its sender and receiver were away.
fn is_explained(due: u64, sender: &[(u64, u64)], receiver: &[(u64, u64)]) -> bool {
    let lasts = |absences: &[(u64, u64)], after: u64| {
        absences.iter().any(|&(cut, back)| {
            cut.saturating_sub(UNDER_WAY) <= due && due <= back + after
        })
    };
    lasts(sender, 0) || lasts(receiver, KNOWN)
}

/// When each packet was due that did not come, from those before and after it.
///
/// `bounds` is when the first may have been due, how many were sent, and when the last
/// may have been due.
fn missing(came: &[(u64, u64)], bounds: (u64, u64, u64)) -> Vec<u64> {
    let (began, sent, end) = bounds;
    let mut came: Vec<(u64, u64)> = came.to_vec();
    came.sort_unstable();
    came.dedup_by_key(|one| one.0);
    came.push((sent, end));
    let (mut next, mut before) = (0, began);
    let mut found = Vec::new();
    for (sequence, due) in came {
        let steps = sequence - next + 1;
        let step = due.saturating_sub(before) / steps;
        found.extend((1..steps).map(|number| before + number * step));
        (next, before) = (sequence + 1, due);
    }
    found
}

/// Where a client begins: on the first node, but for the receiving halves of the pairs.
///
/// They are on all nodes by turns, as after failures of the past: packets cross links.
fn first_node(index: usize, pairs: usize, nodes: usize) -> usize {
    if index < 2 * pairs && index % 2 == 1 { index / 2 % nodes } else { 0 }
}

/// `roam`.
pub fn roam(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let mut nodes = vec![common.target.clone()];
    nodes.extend(options.nodes(&common.target)?);
    let count = options.count("--clients", 1000)?.max(2);
    let pairs = options.count("--pairs", 100)?.min(count / 2);
    let rate = options.rate("--rate", 200.0)?;
    let limit = seconds(options.get("--limit", 60.0)?);
    let check: usize = options.get("--check", 100)?;
    options.finish()?;

    let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
    swarm.watch_stdin().map_err(|error| error.to_string())?;
    let mut roamers = Roamers::new(nodes, count, pairs);
    roamers.gather(&mut swarm, common.concurrency)?;
    announce(&json!({"event": "ready", "clients": count, "on": roamers.places()}));

    let books = common.watch.sample().ok();
    let mut load = Load::Paced(Pace::new(rate));
    let mut end = None;
    loop {
        let now = clock::now();
        if swarm.stdin_ended && end.is_none() {
            end = Some(now + limit);
        }
        if end.is_some_and(|end| roamers.away == 0 || now > end) {
            break;
        }
        let until = roamers.traffic.step(&mut swarm, &mut load).min(now + 100 * MILLI);
        roamers.turn(&mut swarm, until)?;
    }
    report(&mut roamers, &mut swarm, check, books.zip(common.watch.sample().ok()))
}

fn report(
    roamers: &mut Roamers,
    swarm: &mut Swarm,
    check: usize,
    books: Option<(Sample, Sample)>,
) -> Result<Value, String> {
    let still_away = roamers.away;
    let mut relayed = Value::Null;
    if still_away == 0 {
        roamers.finish(swarm)?;
        let ids = roamers.clients.iter().map(|client| client.id).collect();
        let keys = roamers.clients.iter().map(|one| one.identity.public).collect();
        relayed = Crowd::of(ids, keys).check(swarm, check)?;
    }
    let (mut away, mut silences) = (Hist::new(), Hist::new());
    for client in roamers.clients.iter().filter(|client| client.cuts > 0) {
        away.add(client.away);
    }
    for client in roamers.clients.iter().filter(|client| client.heard.is_some()) {
        silences.add(client.silence);
    }
    let ok = still_away == 0 && relayed["ok"] == json!(true);
    let took = roamers.first_cut.zip(roamers.last_back).map(|(a, b)| as_seconds(b - a));
    Ok(json!({
        "load": "roam", "ok": ok && roamers.traffic.unharmed(),
        "clients": roamers.clients.len(), "still_away": still_away,
        "cuts": roamers.clients.iter().map(|client| client.cuts).sum::<u64>(),
        "most_cuts": roamers.clients.iter().map(|client| client.cuts).max(),
        "took_s": took, "gap_ms": roamers.gaps.millis(), "away_ms": away.millis(),
        "passed_over": roamers.passed_over, "failed_attempts": roamers.failed,
        "on": roamers.places(),
        "pairs": {"count": roamers.pairs, "silence_ms": silences.millis(),
                  "traffic": roamers.traffic.report(),
                  "unexplained": roamers.unexplained(),
                  "latency_us": roamers.traffic.latency.micros()},
        "relay_check": relayed,
        "measured": books.map(|(before, after)| after.since(&before, 0)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_of_pairs_are_on_all_nodes_and_everybody_else_on_the_first() {
        let places: Vec<usize> = (0..12).map(|index| first_node(index, 4, 3)).collect();
        assert_eq!(places, [0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn only_what_was_due_about_a_reconnect_may_be_lost() {
        let (cut, back) = (9000 * MILLI, 9500 * MILLI);
        let away = [(cut, back)];
        let explained = |due: u64, sender: &[_], receiver: &[_]| {
            is_explained(due * MILLI, sender, receiver)
        };
        assert!(explained(8800, &away, &[]) && explained(8800, &[], &away));
        assert!(explained(10_400, &[], &away) && !explained(10_400, &away, &[]));
        assert!(!explained(8700, &away, &away) && !explained(10_600, &away, &away));
        assert!(!explained(9200, &[], &[]));
    }

    #[test]
    fn packets_that_did_not_come_were_due_between_those_that_did() {
        assert_eq!(missing(&[(3, 40), (1, 20), (2, 30)], (0, 6, 70)), [10, 50, 60]);
        assert_eq!(missing(&[(0, 10)], (0, 1, 90)), Vec::<u64>::new());
        assert_eq!(missing(&[], (0, 0, 90)), Vec::<u64>::new());
    }
}
