//! What every load understands, and how options are read.

use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;

use pico_args::Arguments;
use rustls::pki_types::ServerName;

use crate::conn::Target;
use crate::net;
use crate::proc::Watch;
use crate::tls;
use crate::traffic::{LARGEST, SMALLEST};

/// Options not read yet.
pub struct Options(Arguments);

/// What all loads share.
pub struct Common {
    /// The relay, or the one of the senders.
    pub target: Rc<Target>,
    /// The relay of the receivers; the same unless the options say otherwise.
    pub other: Rc<Target>,
    /// What to account.
    pub watch: Watch,
    /// Logins under way at the same time.
    pub concurrency: usize,
}

impl Options {
    /// Wrap what the command line holds after the load's name.
    pub fn new(arguments: Arguments) -> Self {
        Self(arguments)
    }

    /// Read an option, or take its default.
    pub fn get<T: FromStr>(
        &mut self,
        name: &'static str,
        default: T,
    ) -> Result<T, String>
    where
        T::Err: Display,
    {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    /// Read an option that has no default.
    pub fn optional<T: FromStr>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, String>
    where
        T::Err: Display,
    {
        self.0.opt_value_from_str(name).map_err(|error| format!("{name}: {error}"))
    }

    /// Read a switch.
    pub fn has(&mut self, name: &'static str) -> bool {
        self.0.contains(name)
    }

    /// Read the size of a packet.
    pub fn size(&mut self) -> Result<usize, String> {
        let size = self.get("--size", 1400)?;
        if (SMALLEST..=LARGEST).contains(&size) {
            Ok(size)
        } else {
            Err(format!("--size {size}: not in {SMALLEST}–{LARGEST}"))
        }
    }

    /// Read a rate that must be above zero.
    pub fn rate(&mut self, name: &'static str, default: f64) -> Result<f64, String> {
        let rate: f64 = self.get(name, default)?;
        if rate > 0.0 && rate.is_finite() {
            Ok(rate)
        } else {
            Err(format!("{name} {rate}: must be above 0"))
        }
    }

    /// Read a count that must be at least one.
    pub fn count(
        &mut self,
        name: &'static str,
        default: usize,
    ) -> Result<usize, String> {
        match self.get(name, default)? {
            0 => Err(format!("{name} 0: must be at least 1")),
            count => Ok(count),
        }
    }

    /// Read what every load shares, and pin the process if it shall be.
    pub fn common(&mut self) -> Result<Common, String> {
        let address: SocketAddr =
            self.optional("--addr")?.ok_or("--addr is missing")?;
        let other: Option<SocketAddr> = self.optional("--addr-b")?;
        let host: Option<String> = self.optional("--host")?;
        let tls = tls::config(self.has("--hybrid"));
        let (plain, fast_start) = (self.has("--plain"), !self.has("--no-fast-start"));
        let target = |address: SocketAddr| -> Result<Rc<Target>, String> {
            let host = host.clone().unwrap_or_else(|| address.ip().to_string());
            let name = ServerName::try_from(host.clone())
                .map_err(|e| format!("--host: {e}"))?;
            let tls = tls.clone();
            Ok(Rc::new(Target { address, host, name, tls, plain, fast_start }))
        };
        if let Some(cpu) = self.optional("--cpu")? {
            net::pin(cpu).map_err(|error| format!("--cpu {cpu}: {error}"))?;
        }
        Ok(Common {
            other: target(other.unwrap_or(address))?,
            target: target(address)?,
            watch: self.watch()?,
            concurrency: self.count("--concurrency", 16)?,
        })
    }

    /// Read the further nodes of a region, which are spoken to as the first one is.
    pub fn nodes(&mut self, like: &Target) -> Result<Vec<Rc<Target>>, String> {
        let found: Vec<SocketAddr> = self
            .0
            .values_from_str("--node")
            .map_err(|error| format!("--node: {error}"))?;
        let target = |address: SocketAddr| {
            Rc::new(Target {
                address,
                host: address.ip().to_string(),
                name: ServerName::IpAddress(address.ip().into()),
                tls: like.tls.clone(),
                plain: like.plain,
                fast_start: like.fast_start,
            })
        };
        Ok(found.into_iter().map(target).collect())
    }

    fn watch(&mut self) -> Result<Watch, String> {
        let all = |name, found: Result<Vec<u32>, pico_args::Error>| {
            found.map_err(|error| format!("{name}: {error}"))
        };
        let pids = all("--relay-pid", self.0.values_from_str("--relay-pid"))?;
        let cpus = all("--watch-cpu", self.0.values_from_str("--watch-cpu"))?;
        Ok(Watch { pids, cpus: cpus.into_iter().map(|cpu| cpu as usize).collect() })
    }

    /// Refuse what nobody read.
    pub fn finish(self) -> Result<(), String> {
        let rest = self.0.finish();
        match rest.first() {
            None => Ok(()),
            Some(one) => {
                Err(format!("{} is not an option of this load", one.to_string_lossy()))
            }
        }
    }
}
