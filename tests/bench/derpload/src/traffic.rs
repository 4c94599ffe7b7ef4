//! Flows of numbered, patterned packets, and the check that each arrives unharmed.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::clock::{self, MILLI};
use crate::conn::{End, Handler, Target};
use crate::hist::Hist;
use crate::swarm::{Job, Swarm, connect_all};
use crate::wire::{self, RECV_PACKET, SEND_PACKET};

/// magic 4 + flow 4 + sequence number 8 + time stamp 8, then the pattern.
pub const SMALLEST: usize = 24;
/// The largest packet of the protocol.
pub const LARGEST: usize = 65_536;
const MAGIC: [u8; 4] = *b"dlv1";
/// Pattern offsets differ from packet to packet within this.
const SHIFTS: usize = 4096;
/// Sequence numbers behind the newest that a duplicate is told from a reorder.
const MEMORY: u64 = 4096;
/// The connection of a client that has none: packets to or from it go nowhere.
pub const NOBODY: usize = usize::MAX;
/// A closed loop takes packets for lost after so long without any arrival.
const PATIENCE: u64 = 500 * MILLI;

/// One sender and one receiver.
struct Flow {
    sender: usize,
    receiver: usize,
    source: [u8; 32],
    destination: [u8; 32],
    /// The next sequence number to send.
    next: u64,
    /// All below have arrived or are taken for lost.
    horizon: u64,
    /// One above the highest that has arrived.
    high: u64,
    seen: Box<[u64; (MEMORY / 64) as usize]>,
    moved: u64,
    queued: bool,
}

/// Counts that only ever grow.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Packets handed to the sockets' buffers.
    pub sent: u64,
    /// Packets that arrived whole, once and in order.
    pub delivered: u64,
    /// Packets that were due while their sender's socket was full.
    pub refused: u64,
    /// Packets that a closed loop no longer waited for.
    pub written_off: u64,
}

/// Everything that must never happen.
#[derive(Default)]
struct Faults {
    corrupt: u64,
    duplicate: u64,
    reordered: u64,
    misdelivered: u64,
    cut: u64,
    first: Option<String>,
}

/// How packets are offered.
pub enum Load {
    /// So many in flight in each flow.
    Window(u64),
    /// So many a second over all flows, evenly spaced, from intended times.
    Paced(Pace),
    /// None.
    Idle,
}

/// Intended send times.
pub struct Pace {
    start: u64,
    gap: f64,
    count: u64,
}

impl Pace {
    /// Begin now.
    pub fn new(rate: f64) -> Self {
        Self { start: clock::now(), gap: 1e9 / rate, count: 0 }
    }

    /// Return the time of the next packet.
    pub fn next(&self) -> u64 {
        self.start + (self.count as f64 * self.gap) as u64
    }

    /// Return how many packets a second are meant.
    pub fn rate(&self) -> f64 {
        1e9 / self.gap
    }

    /// Move on to the one after.
    pub fn advance(&mut self) -> u64 {
        self.count += 1;
        self.count - 1
    }
}

/// Flows, what they carried, and what went wrong.
pub struct Traffic {
    flows: Vec<Flow>,
    size: usize,
    pattern: Vec<u8>,
    ready: Vec<usize>,
    checked: u64,
    faults: Faults,
    /// Running counts.
    pub counts: Counts,
    /// From the intended time of a packet to its arrival.
    pub latency: Hist,
    /// From the intended time of a packet to its sending: the generator's own part.
    pub lateness: Hist,
}

fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(LARGEST + SHIFTS + 8);
    while bytes.len() < LARGEST + SHIFTS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn shift(flow: usize, sequence: u64) -> usize {
    (flow.wrapping_mul(131) + sequence as usize * 17) % SHIFTS
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

impl Traffic {
    /// Make an empty set of flows of one packet size.
    pub fn new(size: usize) -> Self {
        Self {
            flows: Vec::new(),
            size,
            pattern: pattern(),
            ready: Vec::new(),
            checked: 0,
            faults: Faults::default(),
            counts: Counts::default(),
            latency: Hist::new(),
            lateness: Hist::new(),
        }
    }

    /// Connect pairs, senders to one address and receivers to the other.
    pub fn connect(
        size: usize,
        pairs: usize,
        swarm: &mut Swarm,
        targets: (&Rc<Target>, &Rc<Target>),
        concurrency: usize,
    ) -> Result<Self, String> {
        let senders = (0..pairs).map(|_| Job::new(targets.0));
        let receivers = (0..pairs).map(|_| Job::new(targets.1));
        let jobs: Vec<Job> = senders.chain(receivers).collect();
        let ids = connect_all(swarm, &jobs, concurrency)?;
        let mut traffic = Self::new(size);
        for n in 0..pairs {
            let (from, to) = (n, n + pairs);
            let keys = (jobs[from].identity.public, jobs[to].identity.public);
            traffic.add((ids[from], ids[to]), keys);
        }
        Ok(traffic)
    }

    /// Add a flow between two connections, given with their keys.
    pub fn add(&mut self, ids: (usize, usize), keys: ([u8; 32], [u8; 32])) {
        self.flows.push(Flow {
            sender: ids.0,
            receiver: ids.1,
            source: keys.0,
            destination: keys.1,
            next: 0,
            horizon: 0,
            high: 0,
            seen: Box::new([0; (MEMORY / 64) as usize]),
            moved: 0,
            queued: false,
        });
    }

    /// Tell which packet of which flow this is, and when it was due, if it is one.
    pub fn label(&self, payload: &[u8]) -> Option<(usize, u64, u64)> {
        let flow = self.flow_of(payload)?;
        let data = &payload[32..];
        Some((flow, number(&data[8..16]), number(&data[16..24])))
    }

    /// How many packets a flow has sent.
    pub fn sent(&self, flow: usize) -> u64 {
        self.flows[flow].next
    }

    /// Go on with the sender, or the receiver, of a flow on another connection.
    pub fn rehome(&mut self, flow: usize, is_sender: bool, id: usize) {
        let flow = &mut self.flows[flow];
        *if is_sender { &mut flow.sender } else { &mut flow.receiver } = id;
    }

    /// Begin to measure: latencies from before are forgotten.
    pub fn restart_clocks(&mut self) {
        self.latency.clear();
        self.lateness.clear();
    }

    /// Let every flow send again: at the start, and when the load changes.
    pub fn wake(&mut self) {
        let now = clock::now();
        for index in 0..self.flows.len() {
            self.flows[index].moved = now;
            self.queue(index);
        }
    }

    fn queue(&mut self, index: usize) {
        if !self.flows[index].queued {
            self.flows[index].queued = true;
            self.ready.push(index);
        }
    }

    /// Offer what is due; return when to come again at the latest.
    pub fn step(&mut self, swarm: &mut Swarm, load: &mut Load) -> u64 {
        let now = clock::now();
        match load {
            Load::Idle => now + 50 * MILLI,
            Load::Window(window) => {
                self.write_off(now);
                self.fill(swarm, *window, now);
                now + 50 * MILLI
            }
            Load::Paced(pace) => {
                self.send_due(swarm, pace, now);
                pace.next()
            }
        }
    }

    fn fill(&mut self, swarm: &mut Swarm, window: u64, now: u64) {
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|&index| {
            while self.flows[index].next - self.flows[index].horizon < window {
                if !swarm.has_room(self.flows[index].sender) {
                    return true;
                }
                self.send(swarm, index, now);
            }
            self.flows[index].queued = false;
            false
        });
        self.ready = ready;
    }

    fn write_off(&mut self, now: u64) {
        if now - self.checked < PATIENCE / 10 {
            return;
        }
        self.checked = now;
        for index in 0..self.flows.len() {
            let flow = &mut self.flows[index];
            if flow.next > flow.horizon && now > flow.moved + PATIENCE {
                self.counts.written_off += flow.next - flow.horizon;
                flow.horizon = flow.next;
                flow.moved = now;
                self.queue(index);
            }
        }
    }

    fn send_due(&mut self, swarm: &mut Swarm, pace: &mut Pace, now: u64) {
        while pace.next() <= now {
            let due = pace.next();
            let index = pace.advance() as usize % self.flows.len();
            if swarm.has_room(self.flows[index].sender) {
                self.lateness.add(now - due);
                self.send(swarm, index, due);
            } else {
                self.counts.refused += 1;
            }
        }
    }

    fn send(&mut self, swarm: &mut Swarm, index: usize, stamp: u64) {
        let flow = &mut self.flows[index];
        let sequence = flow.next;
        flow.next += 1;
        self.counts.sent += 1;
        let start = shift(index, sequence);
        let body = &self.pattern[start..start + self.size - SMALLEST];
        swarm.write(flow.sender, |out| {
            wire::frame_header(out, SEND_PACKET, 32 + self.size);
            out.extend_from_slice(&flow.destination);
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&(index as u32).to_le_bytes());
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(&stamp.to_le_bytes());
            out.extend_from_slice(body);
        });
    }

    /// Check one packet and give its flow room for the next.
    fn arrived(&mut self, id: usize, payload: &[u8], now: u64) {
        let Some(index) = self.flow_of(payload) else {
            self.faults.corrupt += 1;
            return self
                .note(format!("a packet of {} bytes is not ours", payload.len()));
        };
        let data = &payload[32..];
        let (sequence, stamp) = (number(&data[8..16]), number(&data[16..24]));
        let start = shift(index, sequence);
        let body = &self.pattern[start..start + self.size - SMALLEST];
        let flow = &self.flows[index];
        if flow.receiver != id {
            self.faults.misdelivered += 1;
            return self.note(format!("flow {index} reached the wrong client"));
        }
        if data[SMALLEST..] != *body
            || payload[..32] != flow.source
            || sequence >= flow.next
        {
            self.faults.corrupt += 1;
            return self.note(format!("flow {index}: packet {sequence} is damaged"));
        }
        if self.in_order(index, sequence, now) {
            self.counts.delivered += 1;
            self.latency.add(now.saturating_sub(stamp));
        }
    }

    fn flow_of(&self, payload: &[u8]) -> Option<usize> {
        let data = payload.get(32..)?;
        if data.len() != self.size || data[..4] != MAGIC {
            return None;
        }
        let index =
            u32::from_le_bytes(data[4..8].try_into().expect("four bytes")) as usize;
        (index < self.flows.len()).then_some(index)
    }

    fn in_order(&mut self, index: usize, sequence: u64, now: u64) -> bool {
        let flow = &mut self.flows[index];
        let (word, bit) = ((sequence % MEMORY / 64) as usize, 1 << (sequence % 64));
        if sequence < flow.high {
            let known = flow.high - sequence <= MEMORY && flow.seen[word] & bit != 0;
            let (count, what) = match known {
                true => (&mut self.faults.duplicate, "twice"),
                false => (&mut self.faults.reordered, "late"),
            };
            *count += 1;
            self.note(format!("flow {index}: packet {sequence} came {what}"));
            return false;
        }
        for skipped in flow.high.max(sequence.saturating_sub(MEMORY))..sequence {
            flow.seen[(skipped % MEMORY / 64) as usize] &= !(1 << (skipped % 64));
        }
        flow.seen[word] |= bit;
        flow.high = sequence + 1;
        flow.horizon = flow.horizon.max(flow.high);
        flow.moved = now;
        self.queue(index);
        true
    }

    fn note(&mut self, text: String) {
        self.faults.first.get_or_insert(text);
    }

    /// Return how many packets have neither arrived nor been given up.
    pub fn in_flight(&self) -> u64 {
        self.flows.iter().map(|flow| flow.next - flow.horizon).sum()
    }

    /// Send no more; wait until all has arrived or nothing has for a while.
    ///
    /// Returns when the last packet came.
    pub fn drain(&mut self, swarm: &mut Swarm) -> Result<u64, String> {
        let mut last = clock::now();
        while self.in_flight() > 0 && clock::now() < last + PATIENCE {
            let before = self.counts.delivered;
            let until = clock::now() + 10 * MILLI;
            swarm.turn(until, self).map_err(|error| error.to_string())?;
            if self.counts.delivered > before {
                last = clock::now();
            }
        }
        for flow in &mut self.flows {
            flow.horizon = flow.next;
        }
        Ok(last)
    }

    /// Tell whether nothing happened that must not.
    pub fn ok(&self) -> bool {
        let f = &self.faults;
        f.corrupt + f.duplicate + f.reordered + f.misdelivered + f.cut == 0
    }

    /// The same where clients move: a packet may overtake one that went another way.
    pub fn unharmed(&self) -> bool {
        let f = &self.faults;
        f.corrupt + f.duplicate + f.misdelivered == 0
    }

    /// Describe the whole run.
    pub fn report(&self) -> Value {
        let (c, f) = (self.counts, &self.faults);
        json!({"sent": c.sent, "delivered": c.delivered, "lost": c.sent - c.delivered,
               "written_off": c.written_off, "refused": c.refused,
               "corrupt": f.corrupt, "duplicate": f.duplicate, "reordered": f.reordered,
               "misdelivered": f.misdelivered, "cut": f.cut, "first_fault": f.first})
    }
}

impl Handler for Traffic {
    fn frame(&mut self, id: usize, kind: u8, payload: &[u8], now: u64) {
        if kind == RECV_PACKET {
            self.arrived(id, payload, now);
        }
    }

    fn closed(&mut self, _id: usize, end: End) {
        self.faults.cut += 1;
        self.note(format!("a client was cut: {}", end.why.name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_flow() -> Traffic {
        let mut traffic = Traffic::new(100);
        traffic.add((1, 2), ([3; 32], [4; 32]));
        traffic.flows[0].next = 100_000;
        traffic
    }

    fn packet(traffic: &Traffic, sequence: u64) -> Vec<u8> {
        let start = shift(0, sequence);
        let mut packet = vec![3; 32];
        packet.extend_from_slice(&MAGIC);
        packet.extend_from_slice(&0_u32.to_le_bytes());
        packet.extend_from_slice(&sequence.to_le_bytes());
        packet.extend_from_slice(&0_u64.to_le_bytes());
        packet.extend_from_slice(&traffic.pattern[start..start + 100 - SMALLEST]);
        packet
    }

    fn deliver(traffic: &mut Traffic, sequences: &[u64]) {
        for &sequence in sequences {
            let packet = packet(traffic, sequence);
            traffic.frame(2, RECV_PACKET, &packet, 5);
        }
    }

    #[test]
    fn packets_in_order_are_delivered_and_gaps_only_lost() {
        let mut traffic = one_flow();
        deliver(&mut traffic, &[0, 1, 2, 10, 9000, 9001]);
        assert!(traffic.ok());
        assert_eq!(traffic.counts.delivered, 6);
        assert_eq!(traffic.in_flight(), 100_000 - 9002);
    }

    #[test]
    fn a_packet_that_comes_twice_is_a_duplicate() {
        let mut traffic = one_flow();
        deliver(&mut traffic, &[0, 1, 2, 1]);
        assert!(!traffic.ok());
        assert_eq!((traffic.faults.duplicate, traffic.faults.reordered), (1, 0));
    }

    #[test]
    fn a_packet_that_was_overtaken_is_reordered_not_a_duplicate() {
        let mut traffic = one_flow();
        deliver(&mut traffic, &[0, 4096, 4098, 4097]);
        assert_eq!((traffic.faults.duplicate, traffic.faults.reordered), (0, 1));
    }

    #[test]
    fn damage_and_wrong_receivers_are_seen() {
        let mut traffic = one_flow();
        let mut bad = packet(&traffic, 0);
        *bad.last_mut().unwrap() ^= 1;
        traffic.frame(2, RECV_PACKET, &bad, 5);
        let good = packet(&traffic, 0);
        traffic.frame(7, RECV_PACKET, &good, 5);
        traffic.frame(2, RECV_PACKET, &good[..40], 5);
        assert_eq!((traffic.faults.corrupt, traffic.faults.misdelivered), (2, 1));
        assert_eq!(traffic.counts.delivered, 0);
    }
}
