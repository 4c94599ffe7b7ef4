//! Non-blocking sockets and epoll, as thin as they can be.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::clock::SECOND;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The kernel's form of an address, and its length.
fn raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid sockaddr of any family.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let inner = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large enough and aligned for either form.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(inner) };
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let inner = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(inner) };
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// Set an integer socket option.
pub fn option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` lives through the call and has the length that is given.
    check(unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), length)
    })?;
    Ok(())
}

/// Return the address that a socket is bound to.
pub fn local_address(fd: RawFd) -> io::Result<SocketAddr> {
    // SAFETY: borrowed for this call only, and forgotten instead of closed.
    let stream = mem::ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd) });
    stream.local_addr()
}

/// How a socket is opened.
#[derive(Clone, Copy, Default)]
pub struct Dial {
    /// The n-th loopback address to come from; 0 leaves the choice to the kernel.
    pub source: usize,
    /// Bytes of receive buffer; 0 leaves the kernel's.
    pub receive_buffer: i32,
}

/// Return the n-th address of 127.1.0.0/16: more ports than one address has.
fn loopback(n: usize) -> SocketAddr {
    let [high, low] = (n as u16).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)), 0)
}

/// Begin to connect; the socket becomes writable when that is decided.
pub fn connect(address: SocketAddr, dial: Dial) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the new descriptor belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?) };
    let fd = socket.as_raw_fd();
    option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if dial.receive_buffer > 0 {
        option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, dial.receive_buffer)?;
    }
    if dial.source > 0 && address.is_ipv4() {
        option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        let (storage, length) = raw(loopback(dial.source));
        // SAFETY: `storage` holds an address of that length.
        check(unsafe { libc::bind(fd, (&raw const storage).cast(), length) })?;
    }
    let (storage, length) = raw(address);
    // SAFETY: as above.
    match check(unsafe { libc::connect(fd, (&raw const storage).cast(), length) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Make close reset the connection and forget it, ports and all.
pub fn reset_on_close(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = mem::size_of::<libc::linger>() as libc::socklen_t;
    let value = (&raw const linger).cast();
    // SAFETY: `linger` lives through the call. A failure only means a slower close.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, length) };
}

/// Return and clear a socket's pending error, if any.
pub fn pending_error(fd: RawFd) -> Option<io::Error> {
    let (mut error, mut length) = (0_i32, mem::size_of::<i32>() as libc::socklen_t);
    let value = (&raw mut error).cast();
    // SAFETY: both outlive the call, and `length` is the size of `error`.
    unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, &mut length)
    };
    (error != 0).then(|| io::Error::from_raw_os_error(error))
}

fn transferred(result: isize) -> io::Result<Option<usize>> {
    if result >= 0 {
        return Ok(Some(result as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

/// Receive what is there; `None` when nothing is.
pub fn receive(fd: RawFd, space: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the kernel writes at most the length that is given.
    transferred(unsafe { libc::recv(fd, space.as_mut_ptr().cast(), space.len(), 0) })
}

/// Send what fits; `None` when nothing does.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads at most the length that is given.
    transferred(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Read from stdin, past every buffer of the standard library; 0 at its end.
pub fn read_stdin(space: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most the length that is given.
    let count = unsafe { libc::read(0, space.as_mut_ptr().cast(), space.len()) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
}

/// An epoll instance, level-triggered.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// Readable.
pub const IN: u32 = libc::EPOLLIN as u32;
/// Writable.
pub const OUT: u32 = libc::EPOLLOUT as u32;
/// The other side is gone, wholly or half.
pub const GONE: u32 = (libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) as u32;

impl Poll {
    /// Make an empty instance, with timers as exact as the kernel's.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the new descriptor belongs to nobody else; prctl only sets a number.
        let epoll = unsafe {
            libc::prctl(libc::PR_SET_TIMERSLACK, 1);
            OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?)
        };
        let empty = libc::epoll_event { events: 0, u64: 0 };
        Ok(Self { epoll, events: vec![empty; 1024] })
    }

    fn control(
        &self,
        action: i32,
        fd: RawFd,
        interest: u32,
        token: u64,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: both descriptors are open and `event` lives through the call.
        check(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), action, fd, &mut event)
        })?;
        Ok(())
    }

    /// Watch a descriptor.
    pub fn add(&self, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    /// Change what it is watched for.
    pub fn change(&self, fd: RawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Stop watching a descriptor.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Wait at most so many nanoseconds; replace `ready` by (token, events) of all that is.
    pub fn wait(
        &mut self,
        timeout: u64,
        ready: &mut Vec<(u64, u32)>,
    ) -> io::Result<()> {
        ready.clear();
        let limit = libc::timespec {
            tv_sec: (timeout / SECOND) as i64,
            tv_nsec: (timeout % SECOND) as i64,
        };
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the kernel writes at most as many events as there is room for.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                &raw const limit,
                no_mask,
                0_usize,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            let interrupted = error.kind() == io::ErrorKind::Interrupted;
            return if interrupted { Ok(()) } else { Err(error) };
        }
        let events = &self.events[..count as usize];
        ready.extend(events.iter().map(|event| (event.u64, event.events)));
        Ok(())
    }
}

/// Raise the limit of open files as far as this process may.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls on a local value; failing leaves the limit as it was.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        let wish = libc::rlimit { rlim_cur: 1 << 19, rlim_max: 1 << 19 };
        if limit.rlim_max < wish.rlim_max
            && libc::setrlimit(libc::RLIMIT_NOFILE, &wish) == 0
        {
            return;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Run on one CPU only.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is empty, and CPU_SET stays inside of it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        if cpu >= mem::size_of::<libc::cpu_set_t>() * 8 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &set))?;
    }
    Ok(())
}
