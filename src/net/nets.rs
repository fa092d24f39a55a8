//! Networks that an operator has named.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of networks. An IPv4 address matches in its IPv6 form too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nets(Vec<IpNet>);

impl Nets {
    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address lies in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

impl FromIterator<IpNet> for Nets {
    fn from_iter<T: IntoIterator<Item = IpNet>>(nets: T) -> Self {
        Self(nets.into_iter().collect())
    }
}
