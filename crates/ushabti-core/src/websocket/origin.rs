//! From which pages a browser may open a WebSocket (RFC 6455 section 10.2).
//!
//! Browsers send their cookies along with an upgrade request whatever page has made it, and let the page read what comes
//! back. So a server that knows its users by cookies must look at the Origin itself.

use ushabti_proto::http1::head::RequestHead;

/// Which origins are welcome. Clients that are no browsers send none, and are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every one.
    Any,
    /// That of the host which the request names.
    Same,
    /// These, in lower case: `https://shop.example`.
    Only(Vec<String>),
}

impl Origins {
    /// Whether the origin that the request names, if it names one, is welcome.
    pub(super) fn welcome(&self, head: &RequestHead) -> bool {
        let Some(origin) = head.field("origin") else { return true };
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        match self {
            Self::Any => true,
            Self::Only(origins) => origins.contains(&origin.to_ascii_lowercase()),
            Self::Same => is_same(origin, head.host().unwrap_or("")),
        }
    }
}

/// Whether an origin (RFC 6454 section 7) is the page of this host. The scheme is not compared: a proxy may have taken the
/// encryption off.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, its_host)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    bare(its_host) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn an_origin_is_the_same_by_host_and_port() {
        for (origin, host, same) in [
            ("http://shop.example", "shop.example", true),
            ("https://Shop.example", "shop.EXAMPLE:443", true),
            ("http://shop.example:8080", "shop.example:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("https://shop.example", "shop.example:80", false),
            ("http://shop.example:8080", "shop.example", false),
            ("http://shop.example.evil", "shop.example", false),
            ("http://evil/shop.example", "shop.example", false),
            ("file://", "", false),
            ("null", "null", false),
            ("shop.example", "shop.example", false),
        ] {
            assert_eq!(is_same(origin, host), same, "{origin} {host}");
        }
    }
}
