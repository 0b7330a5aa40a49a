//! Negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1).

use ushabti_proto::websocket::deflate::DeflatePolicy;

use crate::harness::agreed;

const TAKEOVER: DeflatePolicy = DeflatePolicy { window_bits: 15, client_context_takeover: true };
const SMALL: DeflatePolicy = DeflatePolicy { window_bits: 10, client_context_takeover: false };

#[test]
fn offers_are_answered() {
    let default = DeflatePolicy::default();
    for (offer, policy, parameters) in [
        ("permessage-deflate", default, "client_no_context_takeover"),
        ("permessage-deflate; client_max_window_bits", default, "client_no_context_takeover"),
        (
            "permessage-deflate; client_max_window_bits=8",
            default,
            "client_no_context_takeover; client_max_window_bits=8",
        ),
        (
            "permessage-deflate; client_max_window_bits=\"15\"",
            default,
            "client_no_context_takeover; client_max_window_bits=15",
        ),
        (
            "permessage-deflate; server_max_window_bits=9",
            default,
            "client_no_context_takeover; server_max_window_bits=9",
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            default,
            "client_no_context_takeover; server_max_window_bits=15",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            default,
            "client_no_context_takeover",
        ),
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=11",
            default,
            "client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=11",
        ),
        ("permessage-deflate", TAKEOVER, ""),
        ("permessage-deflate; client_no_context_takeover", TAKEOVER, "client_no_context_takeover"),
        ("permessage-deflate", SMALL, "client_no_context_takeover; server_max_window_bits=10"),
        (
            "permessage-deflate; server_max_window_bits=12",
            SMALL,
            "client_no_context_takeover; server_max_window_bits=10",
        ),
        ("permessage-deflate; server_max_window_bits=9", SMALL, "client_no_context_takeover; server_max_window_bits=9"),
    ] {
        let agreement = agreed(offer, policy).unwrap_or_else(|| panic!("{offer}"));
        let fixed = "permessage-deflate; server_no_context_takeover";
        let answer = if parameters.is_empty() { fixed.to_owned() } else { format!("{fixed}; {parameters}") };
        assert_eq!(agreement.answer(), answer, "{offer}");
        assert_eq!(agreement.client_context_takeover(), !answer.contains("client_no_context_takeover"), "{offer}");
    }
}

#[test]
fn offers_that_cannot_be_met_are_declined() {
    for offer in [
        "",
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=1x",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=-9",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        // zlib cannot compress with a window of 256 bytes.
        "permessage-deflate; server_max_window_bits=8",
    ] {
        assert_eq!(agreed(offer, DeflatePolicy::default()), None, "{offer}");
    }
}

#[test]
fn the_first_offer_that_can_be_met_is_taken() {
    for (offers, bits) in [
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", 10),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=11", 11),
        ("x, permessage-deflate; unknown, permessage-deflate; server_max_window_bits=12, permessage-deflate", 12),
    ] {
        let agreement = agreed(offers, DeflatePolicy::default());
        assert_eq!(agreement.map(|agreement| agreement.server_window_bits()), Some(bits), "{offers}");
    }
}
