//! One connection: from the first SYN to relayed packets, or only as far as asked.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use crypto_box::SalsaBox;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::net;
use crate::tls::{self, Opened, Records, Shake};
use crate::wire::{self, Identity};

/// Bytes before the place that is read into: what an earlier read left over goes there.
pub const RESERVE: usize = 128 * 1024;
/// Bytes of one read.
pub const CHUNK: usize = 256 * 1024;
/// The longest frame of a server that we accept.
const LONGEST_FRAME: usize = 70_000;
/// The longest HTTP answer that we accept.
const LONGEST_HEAD: usize = 8192;

/// Where clients connect, and how they speak.
pub struct Target {
    /// The relay.
    pub address: SocketAddr,
    /// The Host header.
    pub host: String,
    /// The name in the TLS handshake; an address sends none.
    pub name: ServerName<'static>,
    /// How TLS is spoken.
    pub tls: Arc<ClientConfig>,
    /// No TLS.
    pub plain: bool,
    /// Ask for fast start where the relay's certificate allows it.
    pub fast_start: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Logs in and relays.
    Client,
    /// Says nothing at all.
    Silent,
    /// Sends a ClientHello, then nothing.
    HalfTls,
    /// Finishes TLS; what follows is up to the caller.
    Drip,
}

/// How far a connection got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// TCP is being set up.
    Connecting,
    /// TLS is being set up.
    Shaking,
    /// The request is out, the 101 is not in.
    Upgrading,
    /// The relay's first frame is awaited.
    Introducing,
    /// The login is out, ServerInfo is not in.
    Joining,
    /// Logged in.
    Open,
    /// Not meant to go on from here.
    Mute,
}

impl Stage {
    /// Return the stage's name as reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Shaking => "tls",
            Self::Upgrading => "upgrade",
            Self::Introducing => "server_key",
            Self::Joining => "login",
            Self::Open => "open",
            Self::Mute => "mute",
        }
    }

    /// Tell whether the connection is still on its way.
    pub fn pending(self) -> bool {
        !matches!(self, Self::Open | Self::Mute)
    }
}

/// Why a connection ended, when we did not end it.
#[derive(Debug)]
pub enum Why {
    /// The relay closed it.
    Closed,
    /// The relay, or the kernel, reset or refused it.
    Failed(io::Error),
    /// The login took too long.
    Timeout,
    /// The relay broke the protocol.
    Fault(String),
}

impl Why {
    /// Return the reason's name as reports spell it.
    pub fn name(&self) -> String {
        match self {
            Self::Closed => "closed".into(),
            Self::Failed(error) => match error.raw_os_error() {
                Some(libc::ECONNRESET | libc::EPIPE) => "reset".into(),
                Some(libc::ECONNREFUSED) => "refused".into(),
                _ => error.to_string(),
            },
            Self::Timeout => "timeout".into(),
            Self::Fault(text) => text.clone(),
        }
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<String> for Why {
    fn from(text: String) -> Self {
        Self::Fault(text)
    }
}

/// A connection's end, as its owner is told of it.
pub struct End {
    /// How far it had got.
    pub stage: Stage,
    /// Nanoseconds since it began to connect.
    pub age: u64,
    /// The reason.
    pub why: Why,
}

/// What happens to connections, as told to whoever drives the swarm.
///
/// Called in the middle of a turn: note it down now, send in answer to it after.
pub trait Handler {
    /// The connection got as far as its role wants.
    fn open(&mut self, _id: usize, _age: u64) {}
    /// A frame came; `now` is when it was read.
    fn frame(&mut self, _id: usize, _kind: u8, _payload: &[u8], _now: u64) {}
    /// The connection ended, and its id will be given to another.
    fn closed(&mut self, _id: usize, _end: End) {}
}

/// One connection of the swarm.
pub struct Conn {
    socket: OwnedFd,
    target: Rc<Target>,
    role: Role,
    stage: Stage,
    shake: Option<Box<Shake>>,
    records: Option<Box<Records>>,
    shared: Option<Box<SalsaBox>>,
    identity: Rc<Identity>,
    out: Vec<u8>,
    sent: usize,
    sealed_rest: Vec<u8>,
    plain_rest: Vec<u8>,
    /// When it began to connect.
    pub started: u64,
    /// Bytes received, as they came from the socket.
    pub received: u64,
    /// Tells one user of an id from the next.
    pub serial: u32,
    /// What epoll watches.
    pub interest: u32,
    /// Has output that was not tried yet.
    pub dirty: bool,
    /// Never reads again.
    pub frozen: bool,
}

/// What a read brought about, beyond frames.
#[derive(Default)]
struct Progress {
    /// Plaintext at the start of the space.
    plain: usize,
    /// Bytes of the space that were looked at.
    used: usize,
    /// The relay said goodbye.
    closed: bool,
}

impl Conn {
    /// Wrap a socket that has begun to connect.
    pub fn new(
        socket: OwnedFd,
        role: Role,
        target: Rc<Target>,
        identity: Rc<Identity>,
        started: u64,
    ) -> Self {
        Self {
            socket,
            target,
            role,
            stage: Stage::Connecting,
            shake: None,
            records: None,
            shared: None,
            identity,
            out: Vec::new(),
            sent: 0,
            sealed_rest: Vec::new(),
            plain_rest: Vec::new(),
            started,
            received: 0,
            serial: 0,
            interest: 0,
            dirty: false,
            frozen: false,
        }
    }

    /// Return the socket's descriptor.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Return our end's address.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        net::local_address(self.fd())
    }

    /// Tell how far it got.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Return how many bytes wait for the socket.
    pub fn backlog(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Append one write of the caller's: one TLS record, or plain bytes.
    pub fn write(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        match &mut self.records {
            None => fill(&mut self.out),
            Some(records) => {
                let start = Records::begin(&mut self.out);
                fill(&mut self.out);
                records.end(&mut self.out, start);
            }
        }
    }

    /// Append the end of the TLS connection, if there is one.
    pub fn say_goodbye(&mut self) {
        if let Some(records) = &mut self.records {
            records.close(&mut self.out);
        }
    }

    /// Send what fits; tell whether everything did.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match net::send(self.fd(), &self.out[self.sent..])? {
                None => return Ok(false),
                Some(count) => self.sent += count,
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(true)
    }

    /// TCP is up: say the first thing that the role says.
    pub fn connected(&mut self) -> Result<(), Why> {
        if let Some(error) = net::pending_error(self.fd()) {
            return Err(error.into());
        }
        match self.role {
            Role::Silent => self.stage = Stage::Mute,
            Role::HalfTls => {
                Shake::start(&self.target, &mut self.out)?;
                self.stage = Stage::Mute;
            }
            Role::Client | Role::Drip if self.target.plain => self.secured(None),
            Role::Client | Role::Drip => {
                let shake = Shake::start(&self.target, &mut self.out)?;
                self.shake = Some(Box::new(shake));
                self.stage = Stage::Shaking;
            }
        }
        Ok(())
    }

    /// TLS is up, or not wanted: ask for the upgrade, and log in if the key is known.
    fn secured(&mut self, server_key: Option<[u8; 32]>) {
        if self.role == Role::Drip {
            self.stage = Stage::Mute;
            return;
        }
        let target = self.target.clone();
        let key = server_key.filter(|_| target.fast_start);
        let login = key.map(|key| self.login_frame(&key));
        self.write(|out| {
            wire::request(&target.host, login.is_some(), out);
            out.extend_from_slice(login.as_deref().unwrap_or_default());
        });
        let fast = login.is_some();
        self.stage = if fast { Stage::Joining } else { Stage::Upgrading };
    }

    fn login_frame(&mut self, server_key: &[u8; 32]) -> Vec<u8> {
        let shared = self.identity.shared(server_key);
        let mut frame = Vec::with_capacity(128);
        self.identity.login(&shared, wire::random(), &mut frame);
        wire::note_preferred(&mut frame);
        self.shared = Some(Box::new(shared));
        frame
    }

    /// Read once and act on it. The space is shared by all connections.
    pub fn read(
        &mut self,
        id: usize,
        space: &mut [u8],
        clock: fn() -> u64,
        handler: &mut dyn Handler,
    ) -> Result<(), Why> {
        let Some(count) = net::receive(self.fd(), &mut space[RESERVE..])? else {
            return Ok(());
        };
        if count == 0 {
            return Err(Why::Closed);
        }
        self.received += count as u64;
        if self.stage == Stage::Mute {
            return Ok(());
        }
        let now = clock();
        let rest = self.plain_rest.len() + self.sealed_rest.len();
        let space = &mut space[RESERVE - rest..RESERVE + count];
        let plain = self.plain_rest.len();
        space[..plain].copy_from_slice(&self.plain_rest);
        space[plain..rest].copy_from_slice(&self.sealed_rest);
        let progress = self.unseal(space, plain)?;
        self.sealed_rest.clear();
        self.sealed_rest.extend_from_slice(&space[progress.used..]);
        let parsed = self.frames(id, &space[..progress.plain], now, handler)?;
        self.plain_rest.clear();
        self.plain_rest.extend_from_slice(&space[parsed..progress.plain]);
        if self.stage == Stage::Mute {
            handler.open(id, now - self.started);
        }
        if progress.closed { Err(Why::Closed) } else { Ok(()) }
    }

    /// Take records off until none is complete; gather their plaintext at the start.
    fn unseal(&mut self, space: &mut [u8], plain: usize) -> Result<Progress, Why> {
        let mut progress = Progress { plain, used: plain, closed: false };
        if self.target.plain {
            progress.plain = space.len();
            progress.used = space.len();
            return Ok(progress);
        }
        while let Some(length) = tls::complete(&space[progress.used..]) {
            let end = progress.used + length;
            if let Some(records) = &mut self.records {
                let at = progress.used - progress.plain;
                match records.open(&mut space[progress.plain..end], at)? {
                    Opened::Data(size) => progress.plain += size,
                    Opened::Nothing => {}
                    Opened::Closed => progress.closed = true,
                }
            } else {
                self.shake_on(&space[progress.used..end])?;
            }
            progress.used = end;
        }
        Ok(progress)
    }

    fn shake_on(&mut self, record: &[u8]) -> Result<(), Why> {
        let shake =
            self.shake.as_mut().ok_or_else(|| "TLS: no handshake".to_owned())?;
        if shake.record(record, &mut self.out)? {
            let shaken = self.shake.take().expect("just used").finish()?;
            self.records = Some(Box::new(shaken.records));
            self.secured(shaken.server_key);
        }
        Ok(())
    }

    /// Act on every complete frame; return how far they went.
    fn frames(
        &mut self,
        id: usize,
        plain: &[u8],
        now: u64,
        handler: &mut dyn Handler,
    ) -> Result<usize, Why> {
        let mut at = 0;
        if self.stage == Stage::Upgrading {
            match head_length(plain)? {
                None => return Ok(0),
                Some(length) => at = length,
            }
            self.stage = Stage::Introducing;
        }
        while let Some(header) = plain.get(at..at + wire::HEADER) {
            let length =
                u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let (start, length) = (at + wire::HEADER, length as usize);
            if length > LONGEST_FRAME {
                return Err(Why::Fault(format!(
                    "not DERP: {}",
                    printable(&plain[at..])
                )));
            }
            let Some(payload) = plain.get(start..start + length) else {
                break;
            };
            match header[0] {
                kind if self.stage.pending() => {
                    self.greet(id, kind, payload, now, handler)?
                }
                wire::PING if length >= 8 => self.pong(&payload[..8]),
                kind => handler.frame(id, kind, payload, now),
            }
            at = start + length;
        }
        Ok(at)
    }

    /// The frames of a login.
    fn greet(
        &mut self,
        id: usize,
        kind: u8,
        payload: &[u8],
        now: u64,
        handler: &mut dyn Handler,
    ) -> Result<(), Why> {
        match (self.stage, kind) {
            (Stage::Introducing, wire::SERVER_KEY) => {
                let key = wire::server_key(payload)
                    .ok_or_else(|| Why::Fault("a bad ServerKey frame".into()))?;
                let login = self.login_frame(&key);
                self.write(|out| out.extend_from_slice(&login));
                self.stage = Stage::Joining;
            }
            (Stage::Joining, wire::SERVER_KEY) => {}
            (Stage::Joining, wire::SERVER_INFO) => {
                let shared = self.shared.take().expect("the login made it");
                if !wire::opens(&shared, payload) {
                    return Err(Why::Fault("ServerInfo does not open".into()));
                }
                self.stage = Stage::Open;
                handler.open(id, now - self.started);
            }
            (stage, kind) => {
                let text =
                    format!("frame 0x{kind:02x} while in stage {}", stage.name());
                return Err(Why::Fault(text));
            }
        }
        Ok(())
    }

    fn pong(&mut self, echo: &[u8]) {
        self.write(|out| {
            wire::frame_header(out, wire::PONG, echo.len());
            out.extend_from_slice(echo);
        });
    }
}

/// Return the length of a complete 101 answer.
fn head_length(plain: &[u8]) -> Result<Option<usize>, Why> {
    let Some(end) = plain.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if plain.len() > LONGEST_HEAD {
            Err(Why::Fault("the HTTP answer does not end".into()))
        } else {
            Ok(None)
        };
    };
    if plain.starts_with(b"HTTP/1.1 101 ") {
        Ok(Some(end + 4))
    } else {
        Err(Why::Fault(format!("refused: {}", printable(plain))))
    }
}

/// The first line of what was meant to be something else.
fn printable(bytes: &[u8]) -> String {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = &line[..line.len().min(80)];
    line.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_101_ends_at_the_blank_line_and_others_are_refused() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n\x01";
        assert_eq!(head_length(head).unwrap(), Some(head.len() - 1));
        assert_eq!(head_length(&head[..20]).unwrap(), None);
        let refusal = head_length(b"HTTP/1.1 503 Busy\r\n\r\n").unwrap_err();
        assert_eq!(refusal.name(), "refused: HTTP/1.1 503 Busy");
        assert!(head_length(&[b'a'; LONGEST_HEAD + 1]).is_err());
    }
}
