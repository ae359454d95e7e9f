//! A cluster's membership as written, and addresses.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// Every member's id and peer address, as in `1=10.0.0.1:8001,2=10.0.0.2:8001`.
///
/// - There is at least one member, and ids are from 1.
/// - No two members share an address, and each address is a `host:port` with a port that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members(BTreeMap<u64, String>);

impl Members {
    /// By id.
    pub fn into_map(self) -> BTreeMap<u64, String> {
        self.0
    }

    fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Members, String> {
        let mut members = BTreeMap::new();
        for (id, address) in pairs {
            let number: u64 = id
                .parse()
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| format!("{id:?} is no member id: give each member a number from 1"))?;
            if port(&address).is_none_or(|port| port == 0) {
                return Err(format!(
                    "member {number}'s address {address:?} is no host:port, such as 127.0.0.1:8001"
                ));
            }
            if let Some((other, _)) = members.iter().find(|(_, known)| **known == address) {
                return Err(format!(
                    "members {other} and {number} share the address {address}: give each its own"
                ));
            }
            if members.insert(number, address).is_some() {
                return Err(format!("member {number} is named twice: give each member its own id"));
            }
        }
        if members.is_empty() {
            return Err("no members are named: give ID=HOST:PORT for each".to_string());
        }
        Ok(Members(members))
    }
}

impl FromStr for Members {
    type Err = String;

    fn from_str(text: &str) -> Result<Members, String> {
        let mut pairs = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (id, address) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is no member: give ID=HOST:PORT, such as 1=127.0.0.1:8001")
            })?;
            pairs.push((id.trim().to_string(), address.trim().to_string()));
        }
        Members::from_pairs(pairs)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_any(MembersVisitor)
    }
}

/// A text as on the command line, or a table of ids and addresses.
struct MembersVisitor;

impl<'de> de::Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ID=HOST:PORT,... or a table of ids and addresses")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Members, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry::<String, String>()? {
            pairs.push(pair);
        }
        Members::from_pairs(pairs).map_err(de::Error::custom)
    }
}

/// The port of a `host:port` (`[host]:port` for IPv6); `None`: it is none.
pub fn port(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let well_formed = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && !host.contains([':', '/', '[', ']']) && !host.contains(char::is_whitespace)
        }
    };
    if well_formed { port.parse().ok() } else { None }
}

/// Whether only this machine can reach a `host:port`. A name other than `localhost` may resolve to anything, so it is not.
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_ids_and_addresses() {
        let members: Members = "1=127.0.0.1:8001, 2=[::1]:8002,3=db3.example:8001".parse().unwrap();
        assert_eq!(members.into_map().into_keys().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_wrong_member_is_named() {
        for (text, part) in [
            ("", "no members"),
            ("1", "\"1\" is no member"),
            ("x=127.0.0.1:1", "\"x\" is no member id"),
            ("0=127.0.0.1:1", "\"0\" is no member id"),
            ("1=127.0.0.1", "member 1's address \"127.0.0.1\""),
            ("1=127.0.0.1:0", "member 1's address"),
            ("1=127.0.0.1:70000", "member 1's address"),
            ("1=::1:8001", "member 1's address"),
            ("1=a:1,1=b:1", "member 1 is named twice"),
            ("1=a:1,2=a:1", "members 1 and 2 share the address a:1"),
        ] {
            let error = text.parse::<Members>().unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn only_loopback_addresses_and_localhost_are_this_machine_alone() {
        for (address, loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("0.0.0.0:1", false),
            ("10.0.0.1:1", false),
            ("localhost.example:1", false),
        ] {
            assert_eq!(is_loopback(address), loopback, "{address}");
        }
    }
}
