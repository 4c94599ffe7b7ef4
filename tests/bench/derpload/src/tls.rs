//! TLS 1.3 with AES-128-GCM: rustls shakes hands, an own record layer carries data.
//!
//! The record layer seals where the packet was written and opens where it was
//! read, which keeps the generator far cheaper than any relay it measures.

use std::sync::Arc;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::client::Resumption;
use rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::conn::Target;
use crate::hybrid::X25519_MLKEM768;
use crate::wire;

/// Record header: type 1 + version 2 + length 2.
pub const HEADER: usize = 5;
/// The longest plaintext of one record.
pub const LONGEST: usize = 16_384;
const TAG: usize = 16;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const KEY_UPDATE: u8 = 24;

/// Accepts every certificate: the load is measured, not the server's identity.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Make the one configuration of a run: one cipher, no resumption, no ALPN.
///
/// Keys are agreed by X25519; `hybrid` offers X25519MLKEM768 before it, as Go does.
pub fn config(hybrid: bool) -> Arc<ClientConfig> {
    let mut kx_groups = vec![provider::kx_group::X25519];
    if hybrid {
        kx_groups.insert(0, X25519_MLKEM768);
    }
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups,
        ..provider::default_provider()
    });
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the cipher is of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// A handshake under way.
pub struct Shake(ClientConnection);

/// What a finished handshake leaves behind.
pub struct Shaken {
    /// The record layer of this connection.
    pub records: Records,
    /// The relay's key, if its certificates named it (fast start).
    pub server_key: Option<[u8; 32]>,
}

impl Shake {
    /// Begin; append the ClientHello.
    pub fn start(target: &Target, out: &mut Vec<u8>) -> Result<Self, String> {
        let (config, name) = (target.tls.clone(), target.name.clone());
        let mut tls = ClientConnection::new(config, name).map_err(text)?;
        tls.write_tls(out).map_err(text)?;
        Ok(Self(tls))
    }

    /// Take exactly one record; append what it makes us say; tell whether it was the last.
    pub fn record(
        &mut self,
        mut record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, String> {
        while !record.is_empty() {
            self.0.read_tls(&mut record).map_err(text)?;
            self.0.process_new_packets().map_err(text)?;
        }
        while self.0.wants_write() {
            self.0.write_tls(out).map_err(text)?;
        }
        Ok(!self.0.is_handshaking())
    }

    /// Take the keys over. Nothing was read past the handshake, so none is lost.
    pub fn finish(self) -> Result<Shaken, String> {
        let certificates = self.0.peer_certificates().unwrap_or_default();
        let server_key = certificates.iter().find_map(|one| wire::meta_key(one));
        let secrets = self.0.dangerous_extract_secrets().map_err(text)?;
        let records =
            Records { seal: Half::new(secrets.tx)?, open: Half::new(secrets.rx)? };
        Ok(Shaken { records, server_key })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    format!("TLS: {error}")
}

/// One direction's key, and the number of the next record.
struct Half {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    next: u64,
}

impl Half {
    fn new((next, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, String> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err("TLS: not AES-128-GCM".into());
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(text)?;
        let iv = iv.as_ref().try_into().map_err(text)?;
        Ok(Self { key: LessSafeKey::new(key), iv, next })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= count;
        }
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What one record was.
pub enum Opened {
    /// Data: this many bytes of plaintext, at the start of the given space.
    Data(usize),
    /// A session ticket, which nobody needs here.
    Nothing,
    /// The other side closed.
    Closed,
}

/// The record layer of an established connection.
pub struct Records {
    seal: Half,
    open: Half,
}

impl Records {
    /// Leave room for the header of a record whose plaintext the caller then appends.
    pub fn begin(out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&[DATA, 3, 3, 0, 0]);
        start
    }

    /// Seal everything appended since `begin`, in place: one record unless it is too long.
    pub fn end(&mut self, out: &mut Vec<u8>, start: usize) {
        if out.len() - start - HEADER <= LONGEST {
            return self.seal_record(out, start, DATA);
        }
        let plain = out.split_off(start + HEADER);
        out.truncate(start);
        for chunk in plain.chunks(LONGEST) {
            let start = Self::begin(out);
            out.extend_from_slice(chunk);
            self.seal_record(out, start, DATA);
        }
    }

    /// Append a close_notify alert.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let start = Self::begin(out);
        out.extend_from_slice(&[1, 0]);
        self.seal_record(out, start, ALERT);
    }

    fn seal_record(&mut self, out: &mut Vec<u8>, start: usize, kind: u8) {
        out.push(kind);
        let length = (out.len() - start - HEADER + TAG) as u16;
        out[start + 3..start + HEADER].copy_from_slice(&length.to_be_bytes());
        let (header, body) = out[start..].split_at_mut(HEADER);
        let header: [u8; HEADER] = header.try_into().expect("split at its length");
        let nonce = self.seal.nonce();
        let sealed =
            self.seal.key.seal_in_place_separate_tag(nonce, Aad::from(header), body);
        out.extend_from_slice(sealed.expect("a record is short enough").as_ref());
    }

    /// Open a record that ends the given space and begins `at` bytes into it.
    ///
    /// The plaintext is moved to the start of the space.
    pub fn open(&mut self, space: &mut [u8], at: usize) -> Result<Opened, String> {
        let header: [u8; HEADER] = space[at..at + HEADER].try_into().expect("a header");
        if header[0] != DATA {
            return Err(format!("TLS: record type {} after the handshake", header[0]));
        }
        let nonce = self.open.nonce();
        let plain = self
            .open
            .key
            .open_within(nonce, Aad::from(header), space, at + HEADER..)
            .map_err(|_| "TLS: a record does not open")?;
        let Some(last) = plain.iter().rposition(|&byte| byte != 0) else {
            return Err("TLS: a record without a type".into());
        };
        match (plain[last], plain.first()) {
            (DATA, _) => Ok(Opened::Data(last)),
            (ALERT, _) => Ok(Opened::Closed),
            (HANDSHAKE, Some(&KEY_UPDATE)) => {
                Err("TLS: KeyUpdate is not supported".into())
            }
            (HANDSHAKE, _) => Ok(Opened::Nothing),
            (other, _) => Err(format!("TLS: inner type {other}")),
        }
    }
}

/// Return the length of the record at the start of the bytes, if it is all there.
pub fn complete(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let whole = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    (bytes.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half() -> Half {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap();
        Half { key: LessSafeKey::new(key), iv: [9; NONCE_LEN], next: 0 }
    }

    fn pair() -> Records {
        Records { seal: half(), open: half() }
    }

    #[test]
    fn a_packet_is_one_record_and_opens_at_the_start_of_the_space() {
        let (mut records, mut out) = (pair(), Vec::new());
        for round in 0..3_u8 {
            out.clear();
            let start = Records::begin(&mut out);
            out.extend_from_slice(&[round; 1400]);
            records.end(&mut out, start);
            assert_eq!(complete(&out), Some(out.len()));
            assert_eq!(out.len(), HEADER + 1400 + 1 + TAG);
            let mut space = vec![0xee; 50];
            space.extend_from_slice(&out);
            assert!(matches!(records.open(&mut space, 50), Ok(Opened::Data(1400))));
            assert_eq!(space[..1400], [round; 1400]);
        }
    }

    #[test]
    fn a_long_frame_is_cut_into_records() {
        let (mut records, mut out) = (pair(), Vec::new());
        let start = Records::begin(&mut out);
        out.extend_from_slice(&[1; 40_000]);
        records.end(&mut out, start);
        let (mut plain, mut at) = (0, 0);
        while let Some(length) = complete(&out[at..]) {
            let Ok(Opened::Data(size)) = records.open(&mut out[at..at + length], 0)
            else {
                panic!("a record does not open");
            };
            (plain, at) = (plain + size, at + length);
        }
        assert_eq!((plain, at), (40_000, out.len()));
    }

    #[test]
    fn a_changed_record_does_not_open_and_an_alert_closes() {
        let (mut records, mut out) = (pair(), Vec::new());
        records.close(&mut out);
        assert!(matches!(records.open(&mut out.clone(), 0), Ok(Opened::Closed)));
        out[6] ^= 1;
        assert!(records.open(&mut out, 0).is_err());
    }
}
