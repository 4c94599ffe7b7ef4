//! X25519MLKEM768, which every Go client since 1.24 offers first, on ring and `ml-kem`.
//!
//! The ML-KEM key is made once for a whole run: making one costs the generator as much
//! as the rest of a login, and no relay can tell. The shares are concatenated, ML-KEM first, and so are the secrets.
//! Source: draft-ietf-tls-ecdhe-mlkem, sections 4.1 to 4.3.

use std::sync::LazyLock;

use ml_kem::{Decapsulate, DecapsulationKey, KeyExport, MlKem768, Seed};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};

use crate::wire;

/// Length of an ML-KEM-768 ciphertext.
const CIPHERTEXT: usize = 1088;

/// The group, as a client uses it.
#[derive(Debug)]
pub struct Hybrid;

/// Its one instance.
pub static X25519_MLKEM768: &dyn SupportedKxGroup = &Hybrid;

/// The run's ML-KEM key, with its public half ready to send.
static KEY: LazyLock<(DecapsulationKey<MlKem768>, Vec<u8>)> = LazyLock::new(|| {
    let secret = DecapsulationKey::from_seed(Seed::from(wire::random::<64>()));
    let share = secret.encapsulation_key().to_bytes().to_vec();
    (secret, share)
});

struct Active {
    classical: Box<dyn ActiveKeyExchange>,
    share: Vec<u8>,
}

impl SupportedKxGroup for Hybrid {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let classical = X25519.start()?;
        let share = [KEY.1.as_slice(), classical.pub_key()].concat();
        Ok(Box::new(Active { classical, share }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

impl ActiveKeyExchange for Active {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        let bad = || Error::from(PeerMisbehaved::InvalidKeyShare);
        let (ciphertext, classical) =
            share.split_at_checked(CIPHERTEXT).ok_or_else(bad)?;
        let ciphertext = ciphertext.try_into().map_err(|_| bad())?;
        let mut secret = KEY.0.decapsulate(&ciphertext).to_vec();
        secret.extend_from_slice(self.classical.complete(classical)?.secret_bytes());
        Ok(SharedSecret::from(secret))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((self.classical.group(), self.classical.pub_key()))
    }

    fn complete_hybrid_component(
        self: Box<Self>,
        share: &[u8],
    ) -> Result<SharedSecret, Error> {
        self.classical.complete(share)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}
