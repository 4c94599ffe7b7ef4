//! All connections of a run, on one epoll loop.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use crate::clock::{self, SECOND};
use crate::conn::{CHUNK, Conn, End, Handler, RESERVE, Role, Stage, Target, Why};
use crate::net::{self, Dial, GONE, IN, OUT, Poll};
use crate::wire::Identity;

/// The budget of a login; Go's client has the same.
const LOGIN_LIMIT: u64 = 10 * SECOND;
/// More output than this in front of a socket, and its sender waits.
const ROOM: usize = 128 * 1024;
const STDIN: u64 = u64::MAX;

/// Connections by id, and the loop that moves them.
pub struct Swarm {
    poll: Poll,
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    dirty: Vec<usize>,
    ready: Vec<(u64, u32)>,
    space: Vec<u8>,
    deadlines: VecDeque<(u64, usize, u32)>,
    serial: u32,
    /// Connections that exist.
    pub count: usize,
    /// Lines from stdin, oldest first.
    pub lines: VecDeque<String>,
    /// Stdin has ended.
    pub stdin_ended: bool,
    partial_line: Vec<u8>,
}

impl Swarm {
    /// Make an empty swarm.
    pub fn new() -> io::Result<Self> {
        net::raise_file_limit();
        Ok(Self {
            poll: Poll::new()?,
            conns: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            ready: Vec::new(),
            space: vec![0; RESERVE + CHUNK],
            deadlines: VecDeque::new(),
            serial: 0,
            count: 0,
            lines: VecDeque::new(),
            stdin_ended: false,
            partial_line: Vec::new(),
        })
    }

    /// Begin a connection; its handler hears how it goes.
    pub fn connect(
        &mut self,
        role: Role,
        target: &Rc<Target>,
        identity: &Rc<Identity>,
        dial: Dial,
    ) -> io::Result<usize> {
        let started = clock::now();
        let socket = net::connect(target.address, dial)?;
        let mut conn =
            Conn::new(socket, role, target.clone(), identity.clone(), started);
        self.serial = self.serial.wrapping_add(1);
        conn.serial = self.serial;
        conn.interest = IN | OUT;
        let id = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        let token = u64::from(conn.serial) << 32 | id as u64;
        self.poll.add(conn.fd(), conn.interest, token)?;
        self.deadlines.push_back((started + LOGIN_LIMIT, id, conn.serial));
        self.conns[id] = Some(Box::new(conn));
        self.count += 1;
        Ok(id)
    }

    /// Return a connection that has not ended.
    pub fn get(&self, id: usize) -> Option<&Conn> {
        self.conns.get(id)?.as_deref()
    }

    /// Tell whether a connection is there and may be given more to send.
    pub fn has_room(&self, id: usize) -> bool {
        self.get(id).is_some_and(|conn| conn.backlog() < ROOM)
    }

    /// Append one write to a connection's output; it leaves with the next turn.
    pub fn write(&mut self, id: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        if let Some(conn) = self.conns[id].as_deref_mut() {
            conn.write(fill);
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push(id);
            }
        }
    }

    /// Never read from this connection again.
    pub fn freeze(&mut self, id: usize) -> io::Result<()> {
        let Some(conn) = self.conns[id].as_deref_mut() else {
            return Ok(());
        };
        conn.frozen = true;
        conn.interest = GONE;
        let token = u64::from(conn.serial) << 32 | id as u64;
        self.poll.change(conn.fd(), conn.interest, token)
    }

    /// Close as a client does.
    pub fn close(&mut self, id: usize) {
        if let Some(mut conn) = self.take(id) {
            conn.say_goodbye();
            // A relay that is gone already need not hear it.
            let _ = conn.flush();
        }
    }

    /// Cut without a word.
    pub fn reset(&mut self, id: usize) {
        if let Some(conn) = self.take(id) {
            net::reset_on_close(conn.fd());
        }
    }

    fn take(&mut self, id: usize) -> Option<Box<Conn>> {
        let conn = self.conns.get_mut(id)?.take()?;
        self.free.push(id);
        self.count -= 1;
        Some(conn)
    }

    fn end(&mut self, id: usize, why: Why, handler: &mut dyn Handler) {
        if let Some(conn) = self.take(id) {
            let age = clock::now() - conn.started;
            handler.closed(id, End { stage: conn.stage(), age, why });
        }
    }

    /// Send what was written, wait until `until` at the latest, act on what came.
    pub fn turn(&mut self, until: u64, handler: &mut dyn Handler) -> io::Result<()> {
        self.flush(handler);
        let until = self.deadlines.front().map_or(until, |first| first.0.min(until));
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(until.saturating_sub(clock::now()), &mut ready)?;
        for &(token, events) in &ready {
            if token == STDIN {
                self.read_stdin()?;
            } else {
                self.event(token, events, handler);
            }
        }
        self.ready = ready;
        self.expire(handler);
        Ok(())
    }

    fn flush(&mut self, handler: &mut dyn Handler) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(conn) = self.conns[id].as_deref_mut() else {
                continue;
            };
            conn.dirty = false;
            if conn.stage() == Stage::Connecting || conn.interest & OUT != 0 {
                continue;
            }
            if let Err(why) = self.flush_one(id) {
                self.end(id, why, handler);
            }
        }
        // Ids that became dirty meanwhile do not exist: nothing above writes.
        self.dirty = dirty;
    }

    fn flush_one(&mut self, id: usize) -> Result<(), Why> {
        let Some(conn) = self.conns[id].as_deref_mut() else {
            return Ok(());
        };
        let done = conn.flush()?;
        let reading = if conn.frozen { GONE } else { IN };
        let interest = if done { reading } else { reading | OUT };
        if interest != conn.interest {
            conn.interest = interest;
            let token = u64::from(conn.serial) << 32 | id as u64;
            self.poll.change(conn.fd(), interest, token)?;
        }
        Ok(())
    }

    fn event(&mut self, token: u64, events: u32, handler: &mut dyn Handler) {
        let (id, serial) = ((token & 0xffff_ffff) as usize, (token >> 32) as u32);
        let Some(conn) = self.conns[id].as_deref_mut() else {
            return;
        };
        if conn.serial != serial {
            return;
        }
        if let Err(why) = self.act(id, events, handler) {
            self.end(id, why, handler);
        }
    }

    fn act(
        &mut self,
        id: usize,
        events: u32,
        handler: &mut dyn Handler,
    ) -> Result<(), Why> {
        let conn = self.conns[id].as_deref_mut().expect("the caller looked");
        if conn.stage() == Stage::Connecting {
            conn.connected()?;
            if conn.stage() == Stage::Mute {
                handler.open(id, clock::now() - conn.started);
            }
            return self.flush_one(id);
        }
        if conn.frozen && events & GONE != 0 {
            let error = net::pending_error(conn.fd());
            return Err(error.map_or(Why::Closed, Why::Failed));
        }
        if events & (IN | GONE) != 0 && !conn.frozen {
            conn.read(id, &mut self.space, clock::now, handler)?;
        }
        if events & OUT != 0 || conn.backlog() > 0 && conn.interest & OUT == 0 {
            self.flush_one(id)?;
        }
        Ok(())
    }

    fn expire(&mut self, handler: &mut dyn Handler) {
        let now = clock::now();
        while let Some(&(deadline, id, serial)) = self.deadlines.front() {
            let conn = self.conns[id].as_deref();
            let pending =
                conn.is_some_and(|c| c.serial == serial && c.stage().pending());
            if pending && deadline > now {
                return;
            }
            self.deadlines.pop_front();
            if pending {
                self.end(id, Why::Timeout, handler);
            }
        }
    }

    /// Have lines of stdin collected from now on.
    pub fn watch_stdin(&mut self) -> io::Result<()> {
        match self.poll.add(0, IN, STDIN) {
            // A file, or no stdin at all: nobody is going to say anything.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                self.stdin_ended = true;
                Ok(())
            }
            other => other,
        }
    }

    fn read_stdin(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let count = net::read_stdin(&mut bytes)?;
        self.partial_line.extend_from_slice(&bytes[..count]);
        while let Some(end) = self.partial_line.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial_line.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.lines.push_back(line.trim().to_owned());
        }
        if count == 0 {
            self.stdin_ended = true;
            self.poll.remove(0)?;
        }
        Ok(())
    }
}

/// One client to be connected.
pub struct Job {
    /// Where to.
    pub target: Rc<Target>,
    /// Who it is.
    pub identity: Rc<Identity>,
    /// How its socket is opened.
    pub dial: Dial,
}

impl Job {
    /// A client of its own new key.
    pub fn new(target: &Rc<Target>) -> Self {
        let identity = Rc::new(Identity::random());
        Self { target: target.clone(), identity, dial: Dial::default() }
    }
}

#[derive(Default)]
struct Arrivals {
    open: Vec<usize>,
    failed: Option<String>,
}

impl Handler for Arrivals {
    fn open(&mut self, id: usize, _age: u64) {
        self.open.push(id);
    }

    fn closed(&mut self, _id: usize, end: End) {
        let text = format!("{} in stage {}", end.why.name(), end.stage.name());
        self.failed.get_or_insert(text);
    }
}

/// Connect all, so many at a time; return their ids in order.
///
/// A client that fails, or one already there that is cut meanwhile, fails them all.
pub fn connect_all(
    swarm: &mut Swarm,
    jobs: &[Job],
    concurrency: usize,
) -> Result<Vec<usize>, String> {
    let mut ids = Vec::with_capacity(jobs.len());
    let mut arrivals = Arrivals::default();
    while arrivals.open.len() < jobs.len() {
        while ids.len() < jobs.len() && ids.len() < arrivals.open.len() + concurrency {
            let job = &jobs[ids.len()];
            let id = swarm
                .connect(Role::Client, &job.target, &job.identity, job.dial)
                .map_err(|error| format!("client {}: {error}", ids.len()))?;
            ids.push(id);
        }
        let until = clock::now() + SECOND;
        swarm.turn(until, &mut arrivals).map_err(|error| error.to_string())?;
        if let Some(failed) = arrivals.failed {
            return Err(format!("a client could not connect: {failed}"));
        }
    }
    Ok(ids)
}
