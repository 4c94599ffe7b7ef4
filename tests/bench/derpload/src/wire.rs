//! The client's half of DERP: frames, the sealed login, the upgrade request.

use crypto_box::aead::Aead;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use ring::rand::{SecureRandom, SystemRandom};

/// First, from the server: magic 8 + key 32.
pub const SERVER_KEY: u8 = 0x01;
/// First, from the client: key 32 + nonce 24 + box.
pub const CLIENT_INFO: u8 = 0x02;
/// The server's answer to a login: nonce 24 + box.
pub const SERVER_INFO: u8 = 0x03;
/// Destination key 32 + packet.
pub const SEND_PACKET: u8 = 0x04;
/// Source key 32 + packet.
pub const RECV_PACKET: u8 = 0x05;
/// One byte: this region is home.
pub const NOTE_PREFERRED: u8 = 0x07;
/// Key 32 + reason 1.
pub const PEER_GONE: u8 = 0x08;
/// 8 bytes, to be echoed.
pub const PING: u8 = 0x12;
/// 8 bytes, the echo.
pub const PONG: u8 = 0x13;

/// Frame header: type 1 + length 4.
pub const HEADER: usize = 5;
const MAGIC: &[u8; 8] = b"DERP\xf0\x9f\x94\x91";
/// Byte for byte what a client of 1.104 seals.
const INFO: &[u8] = br#"{"version":2,"CanAckPings":true}"#;
const NONCE: usize = 24;

/// A node key, public half ready to send.
pub struct Identity {
    secret: SecretKey,
    /// The key that peers address.
    pub public: [u8; 32],
}

/// Fill a buffer from the system's randomness.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel has randomness");
    bytes
}

impl Identity {
    /// Make a new node key.
    pub fn random() -> Self {
        Self::from_secret(random())
    }

    fn from_secret(mut secret: [u8; 32]) -> Self {
        secret[0] &= 248;
        secret[31] = (secret[31] & 127) | 64;
        let secret = SecretKey::from(secret);
        let public = *secret.public_key().as_bytes();
        Self { secret, public }
    }

    /// Return the box shared with a server.
    pub fn shared(&self, server: &[u8; 32]) -> SalsaBox {
        SalsaBox::new(&PublicKey::from(*server), &self.secret)
    }

    /// Append the login frame.
    pub fn login(&self, shared: &SalsaBox, nonce: [u8; NONCE], out: &mut Vec<u8>) {
        let sealed = shared.encrypt(&nonce.into(), INFO).expect("sealing never fails");
        frame_header(out, CLIENT_INFO, 32 + NONCE + sealed.len());
        out.extend_from_slice(&self.public);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
    }
}

/// Append a frame's header.
pub fn frame_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(&(length as u32).to_be_bytes());
}

/// Append the frame that declares this region home.
pub fn note_preferred(out: &mut Vec<u8>) {
    frame_header(out, NOTE_PREFERRED, 1);
    out.push(1);
}

/// Return the server's key from the payload of its first frame.
pub fn server_key(payload: &[u8]) -> Option<[u8; 32]> {
    let key = payload.strip_prefix(MAGIC)?.get(..32)?;
    key.try_into().ok()
}

/// Return the server's key from a meta certificate, by its common name.
pub fn meta_key(certificate: &[u8]) -> Option<[u8; 32]> {
    let mark = b"derpkey";
    let start = certificate.windows(mark.len()).position(|window| window == mark)?;
    hex(certificate.get(start + mark.len()..start + mark.len() + 64)?)
}

fn hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(text.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(key)
}

/// Tell whether a ServerInfo opens: the server holds the key it announced.
pub fn opens(shared: &SalsaBox, payload: &[u8]) -> bool {
    let Some((nonce, sealed)) = payload.split_at_checked(NONCE) else {
        return false;
    };
    let nonce: [u8; NONCE] = nonce.try_into().expect("split at its length");
    shared.decrypt(&nonce.into(), sealed).is_ok()
}

/// Append the upgrade request of a Go client.
pub fn request(host: &str, fast_start: bool, out: &mut Vec<u8>) {
    let fast = if fast_start { "Derp-Fast-Start: 1\r\n" } else { "" };
    let text = format!(
        "GET /derp HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n\
         Connection: Upgrade\r\n{fast}Upgrade: DERP\r\n\r\n"
    );
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str =
        "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
    const CLIENT: &str =
        "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20";

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| {
                u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()
            })
            .collect()
    }

    #[test]
    fn keys_match_the_golden_vectors() {
        assert_eq!(Identity::from_secret([0x11; 32]).public.as_slice(), unhex(SERVER));
        assert_eq!(Identity::from_secret([0x22; 32]).public.as_slice(), unhex(CLIENT));
    }

    #[test]
    fn the_server_key_frame_matches_the_golden_vector() {
        let frame = unhex(&format!("0100000028 4445 5250 f09f 9491 {SERVER}"));
        assert_eq!(frame[0], SERVER_KEY);
        assert_eq!(server_key(&frame[HEADER..]).unwrap().as_slice(), unhex(SERVER));
        assert_eq!(server_key(&frame[HEADER..HEADER + 39]), None);
    }

    #[test]
    fn the_login_matches_the_golden_vector() {
        let client = Identity::from_secret([0x22; 32]);
        let shared = client.shared(&unhex(SERVER).try_into().unwrap());
        let mut frame = Vec::new();
        client.login(&shared, [0x33; 24], &mut frame);
        let nonce = "33".repeat(24);
        let sealed = "0cac76b82cb75df3a51a9d802720c3384d3eb8fccc9a8433ce902111b5d68524\
                      935652b1a16fbfc21be3b4a3ed66992a";
        assert_eq!(frame, unhex(&format!("0200000068 {CLIENT} {nonce} {sealed}")));
    }

    #[test]
    fn the_server_info_of_the_golden_vector_opens_and_a_changed_one_does_not() {
        let client = Identity::from_secret([0x22; 32]);
        let shared = client.shared(&unhex(SERVER).try_into().unwrap());
        let mut info = unhex(&"44".repeat(24));
        info.extend(unhex(
            "98cc589c163885043e1278210bd48deee3c56f584bfdcbc303ff0f3c69",
        ));
        assert!(opens(&shared, &info));
        info[30] ^= 1;
        assert!(!opens(&shared, &info));
        assert!(!opens(&shared, &info[..10]));
    }

    #[test]
    fn the_home_note_matches_the_golden_vector() {
        let mut frame = Vec::new();
        note_preferred(&mut frame);
        assert_eq!(frame, unhex("0700000001 01"));
    }

    #[test]
    fn the_meta_certificate_gives_the_key_and_others_give_none() {
        let certificate = format!("....derpkey{SERVER}....").into_bytes();
        assert_eq!(meta_key(&certificate).unwrap().as_slice(), unhex(SERVER));
        assert_eq!(meta_key(b"..derpkey7b4e"), None);
        assert_eq!(meta_key(b"localhost"), None);
    }
}
