//! Which addresses may be dialled: those of the public internet, unless the run grants others.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address must not be dialled, unless one of the granted networks holds it.
///
/// An IPv6 address that stands for an IPv4 one (mapped, compatible, NAT64, 6to4) is judged by that.
pub(super) fn prohibited(address: IpAddr, granted: &[IpNet]) -> Option<&'static str> {
    let real = embedded(address);
    if granted.iter().any(|network| network.contains(&address) || network.contains(&real)) {
        return None;
    }
    match real {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

/// The IPv4 address that an IPv6 address stands for, or the address itself.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        // ::ffff:a.b.c.d, and ::ffff:0:a.b.c.d (translated).
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] => v4(g, h),
        // ::a.b.c.d, but not :: and ::1.
        [0, 0, 0, 0, 0, 0] if g != 0 || h > 1 => v4(g, h),
        // 64:ff9b::a.b.c.d
        [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        // 2002:AABB:CCDD::
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

fn v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (169, 254, _) => "a link-local address, where cloud metadata is served",
        (100, 64..=127, _) => "a carrier's shared address",
        (0, ..) => "an address of this network",
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) => "a reserved address",
        (198, 18..=19, _) => "a benchmarking address",
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, ..] = address.segments();
    Some(match (a, b) {
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_unspecified() => "an address of this network",
        (0xfc00..=0xfdff, _) => "a private address",
        (0xfe80..=0xfeff, _) => "a link-local address",
        (0xff00..=0xffff, _) => "a multicast address",
        // 64:ff9b:1::/48 (local NAT64), Teredo, documentation, discard-only.
        (0x64, 0xff9b) | (0x2001, 0 | 0xdb8) | (0x3fff, _) | (0x100, _) => "a reserved address",
        // Only 2000::/3 is given out.
        (0x2000..=0x3fff, _) => return None,
        _ => "a reserved address",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_dialled() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "4000::1",
        ] {
            assert!(prohibited(address.parse().unwrap(), &[]).is_some(), "{address}");
        }
        for address in
            ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "192.169.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "2002:101:101::"]
        {
            assert!(prohibited(address.parse().unwrap(), &[]).is_none(), "{address}");
        }
    }

    #[test]
    fn granted_networks_are_dialled() {
        let granted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for (address, dialled) in
            [("10.9.9.9", true), ("::ffff:10.9.9.9", true), ("::1", true), ("127.0.0.1", false), ("192.168.0.1", false)]
        {
            assert_eq!(prohibited(address.parse().unwrap(), &granted).is_none(), dialled, "{address}");
        }
    }
}
