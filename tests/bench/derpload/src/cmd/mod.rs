//! The loads, one file each.

pub mod crowd;
pub mod fight;
pub mod frozen;
pub mod handshakes;
pub mod herd;
pub mod pairs;
pub mod roam;
pub mod silent;
pub mod stun;
