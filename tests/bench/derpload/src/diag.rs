//! What the kernel holds back of a connection, seen from the relay's end.
//!
//! A client that never reads cannot see its own end: the relay's close waits behind
//! data that nobody takes. The kernel's books show the moment that the relay's
//! socket would take no more. Layout: linux/inet_diag.h, linux/netlink.h.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::net;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NETLINK_SOCK_DIAG: i32 = 4;
const ALL_STATES: u32 = u32::MAX;
/// nlmsghdr 16 + inet_diag_req_v2 56.
const REQUEST: usize = 16 + 56;
/// Offset of the state: nlmsghdr 16 + family 1.
const STATE: usize = 16 + 1;
/// Offset of the send queue: nlmsghdr 16 + four bytes 4 + sockid 48 + expires 4 + rqueue 4.
const SEND_QUEUE: usize = 16 + 4 + 48 + 4 + 4;
const ESTABLISHED: u8 = 1;

/// A socket to ask the kernel with.
pub struct Diag(OwnedFd);

impl Diag {
    /// Open it.
    pub fn new() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the new descriptor belongs to nobody else.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Return the bytes that the socket at `local` still holds for `remote`.
    ///
    /// `None` once that socket is no longer established.
    pub fn send_queue(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<u32>> {
        let request = request(local, remote);
        net::send(self.0.as_raw_fd(), &request)?;
        let mut answer = [0; 512];
        let length = net::receive(self.0.as_raw_fd(), &mut answer)?.unwrap_or(0);
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if length < SEND_QUEUE + 4
            || kind != SOCK_DIAG_BY_FAMILY
            || answer[STATE] != ESTABLISHED
        {
            return Ok(None);
        }
        let queue = answer[SEND_QUEUE..SEND_QUEUE + 4].try_into().expect("four bytes");
        Ok(Some(u32::from_ne_bytes(queue)))
    }
}

fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut out = Vec::with_capacity(REQUEST);
    out.extend_from_slice(&(REQUEST as u32).to_ne_bytes());
    out.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    out.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    out.extend_from_slice(&[0; 8]); // sequence number, port
    out.extend_from_slice(&[family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    out.extend_from_slice(&ALL_STATES.to_ne_bytes());
    out.extend_from_slice(&local.port().to_be_bytes());
    out.extend_from_slice(&remote.port().to_be_bytes());
    out.extend_from_slice(&sixteen(local));
    out.extend_from_slice(&sixteen(remote));
    out.extend_from_slice(&[0; 4]); // any interface
    out.extend_from_slice(&[0xff; 8]); // no cookie
    out
}

/// An address in the first bytes of sixteen.
fn sixteen(address: SocketAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address {
        SocketAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.ip().octets()),
        SocketAddr::V6(v6) => bytes = v6.ip().octets(),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn unread_bytes_are_seen_until_the_socket_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, remote) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 65_536]).is_ok() {}
        let diag = Diag::new().unwrap();
        let local = server.local_addr().unwrap();
        assert!(diag.send_queue(local, remote).unwrap().unwrap() > 0);
        drop(server);
        assert_eq!(diag.send_queue(local, remote).unwrap(), None);
        drop(client);
    }
}
