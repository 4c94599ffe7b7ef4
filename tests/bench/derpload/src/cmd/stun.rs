//! `stun`: binding requests at a rate, answers checked and counted.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use serde_json::{Value, json};

use crate::clock::{self, MILLI, as_seconds, seconds};
use crate::hist::Hist;
use crate::net::{self, IN, Poll};
use crate::options::Options;
use crate::traffic::Pace;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Return the request of a Tailscale client. Source: net/stun/stun.go, Request.
fn request(transaction: [u8; 12]) -> Vec<u8> {
    let mut out = vec![0x00, 0x01, 0x00, 0x14];
    out.extend_from_slice(&COOKIE);
    out.extend_from_slice(&transaction);
    out.extend_from_slice(&[0x80, 0x22, 0x00, 0x08]);
    out.extend_from_slice(b"tailnode");
    let fingerprint = crc32(&out) ^ 0x5354_554e;
    out.extend_from_slice(&[0x80, 0x28, 0x00, 0x04]);
    out.extend_from_slice(&fingerprint.to_be_bytes());
    out
}

/// Return the transaction of an answer that names our own address, else nothing.
fn answer(packet: &[u8], own: SocketAddr) -> Option<[u8; 12]> {
    let (head, attribute) = packet.split_at_checked(20)?;
    let transaction: [u8; 12] = head[8..].try_into().ok()?;
    let (kind, value) = (attribute.get(..2)?, attribute.get(4..)?);
    if head[..2] != [1, 1] || head[4..8] != COOKIE || kind != XOR_MAPPED_ADDRESS {
        return None;
    }
    let port = u16::from_be_bytes(value.get(2..4)?.try_into().ok()?) ^ 0x2112;
    let mask: Vec<u8> = COOKIE.iter().chain(&transaction).copied().collect();
    let masked = value.get(4..)?.iter().zip(&mask).map(|(a, b)| a ^ b);
    let address: Vec<u8> = masked.collect();
    let address = match (value[1], address.len()) {
        (1, 4) => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        (2, 16) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?).to_canonical(),
        _ => return None,
    };
    (SocketAddr::new(address, port) == own).then_some(transaction)
}

#[derive(Default)]
struct Counts {
    sent: u64,
    refused: u64,
    answered: u64,
    wrong: u64,
}

fn receive(socket: &UdpSocket, own: SocketAddr, counts: &mut Counts, times: &mut Hist) {
    let mut packet = [0; 1500];
    loop {
        match socket.recv(&mut packet) {
            Ok(length) => {
                let Some(transaction) = answer(&packet[..length], own) else {
                    counts.wrong += 1;
                    continue;
                };
                let stamp =
                    u64::from_le_bytes(transaction[..8].try_into().expect("eight"));
                counts.answered += 1;
                times.add(clock::now().saturating_sub(stamp));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // A port without a listener reports so here; the count tells.
            Err(_) => return,
        }
    }
}

/// `stun`.
pub fn stun(mut options: Options) -> Result<Value, String> {
    let common = options.common()?;
    let rate = options.rate("--rate", 5000.0)?;
    let burst = options.count("--burst", 1)?;
    let length = seconds(options.rate("--seconds", 5.0)?);
    options.finish()?;
    let text = |error: io::Error| error.to_string();

    let server = common.target.address;
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).map_err(text)?;
    socket.connect(server).map_err(text)?;
    socket.set_nonblocking(true).map_err(text)?;
    let own = socket.local_addr().map_err(text)?;
    net::option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 1 << 21)
        .map_err(text)?;
    let mut poll = Poll::new().map_err(text)?;
    poll.add(socket.as_raw_fd(), IN, 0).map_err(text)?;

    let (mut counts, mut times, mut ready) =
        (Counts::default(), Hist::new(), Vec::new());
    let before = common.watch.sample()?;
    let mut pace = Pace::new(rate / burst as f64);
    let end = clock::now() + length;
    while clock::now() < end {
        while pace.next() <= clock::now() {
            let (due, count) = (pace.next(), pace.advance() as u32);
            for n in 0..burst as u32 {
                let mut transaction = [0; 12];
                transaction[..8].copy_from_slice(&due.to_le_bytes());
                transaction[8..]
                    .copy_from_slice(&(count.wrapping_mul(1024) + n).to_le_bytes());
                match socket.send(&request(transaction)) {
                    Ok(_) => counts.sent += 1,
                    Err(_) => counts.refused += 1,
                }
            }
        }
        poll.wait(pace.next().saturating_sub(clock::now()), &mut ready)
            .map_err(text)?;
        receive(&socket, own, &mut counts, &mut times);
    }
    let mut measured = common.watch.sample()?.since(&before, counts.answered);
    std::thread::sleep(std::time::Duration::from_nanos(200 * MILLI));
    receive(&socket, own, &mut counts, &mut times);
    let due = rate * as_seconds(length);
    measured["offered_share"] = json!((counts.sent as f64 / due * 1e4).round() / 1e4);
    measured["latency_us"] = times.micros();
    Ok(json!({
        "load": "stun",
        "ok": counts.wrong == 0 && counts.answered > 0,
        "rate": rate, "burst": burst, "sent": counts.sent, "refused": counts.refused,
        "answered": counts.answered, "unanswered": counts.sent - counts.answered,
        "wrong": counts.wrong,
        "measured": measured,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "000100142112a442000102030405060708090a0b\
                           802200087461696c6e6f6465802800048aabad90";
    const ANSWER: &str =
        "0101000c2112a442000102030405060708090a0b0020000800019f455e12a443";
    const TRANSACTION: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

    fn unhex(text: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn the_request_matches_the_golden_vector_but_for_the_length_field() {
        assert_eq!(request(TRANSACTION), unhex(REQUEST));
    }

    #[test]
    fn the_golden_answer_is_taken_and_one_to_somebody_else_is_not() {
        let own = SocketAddr::from(([127, 0, 0, 1], 48727));
        assert_eq!(answer(&unhex(ANSWER), own), Some(TRANSACTION));
        let other = SocketAddr::from(([127, 0, 0, 1], 48728));
        assert_eq!(answer(&unhex(ANSWER), other), None);
        assert_eq!(answer(&unhex(ANSWER)[..25], own), None);
    }
}
