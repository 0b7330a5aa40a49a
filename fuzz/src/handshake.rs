//! The opening handshake of WebSockets: extensions, held against a plain reading (RFC 6455 section 9.1), and what is
//! agreed of compression, held against what was offered (RFC 7692 section 7.1).

use ushabti_proto::fields::{forbidden_value_byte, is_token};
use ushabti_proto::http1::head::RequestHead;
use ushabti_proto::websocket::deflate::{DeflateAgreement, DeflatePolicy, NAME};
use ushabti_proto::websocket::handshake::{Extension, Handshake, parse_extensions};

use crate::settings::Settings;

const HEAD: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\
    \r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Takes the input once for the value of Sec-WebSocket-Extensions, and once for more fields of a request.
pub fn check(input: &[u8]) {
    let Some((settings, input)) = Settings::split(input) else { return };
    let policy =
        DeflatePolicy { window_bits: settings.choose(0, [15, 9, 12, 8]), client_context_takeover: settings.flag(2) };
    let offers = parse_extensions(input).ok();
    assert_eq!(offers, extensions(input), "{:?}", String::from_utf8_lossy(input));
    check_agreement(&offers.unwrap_or_default(), policy);

    let Ok(head) = RequestHead::from_lines(&[HEAD, input].concat()) else { return };
    let Ok(handshake) = Handshake::read(&head) else { return };
    let handshake = handshake.expect("the fields of a handshake are there");
    let agreed = DeflateAgreement::negotiate(&handshake.extensions, policy);
    assert!(handshake.protocols.iter().all(|protocol| is_token(protocol.as_bytes())));
    for protocol in handshake.protocols.iter().map(|protocol| Some(protocol.as_str())).chain([None]) {
        let fields = handshake.response_fields(protocol, agreed.as_ref()).expect("it was offered");
        assert!(fields.iter().all(|(_, value)| forbidden_value_byte(value.as_bytes()).is_none()));
    }
    assert!(handshake.response_fields(Some("not, a token"), None).is_err());
}

/// What is answered is one of the offers, and asks for nothing that it does not allow.
fn check_agreement(offers: &[Extension], policy: DeflatePolicy) {
    let Some(agreed) = DeflateAgreement::negotiate(offers, policy) else { return };
    let [answer] = &parse_extensions(agreed.answer().as_bytes()).expect("the answer is well formed")[..] else {
        panic!("{:?} is not one extension", agreed.answer())
    };
    assert_eq!(answer.name, NAME);
    let said = |name: &str| answer.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_deref());
    assert_eq!(said("server_no_context_takeover"), Some(None), "no connection holds a compressor");
    assert_eq!(said("client_no_context_takeover").is_none(), agreed.client_context_takeover());
    let is_met = |offer: &&Extension| {
        let offered = |name: &str| -> Option<Option<u8>> {
            let found = offer.parameters.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.as_ref().and_then(|value| value.parse().ok()))
        };
        let window = agreed.server_window_bits();
        let server_fits = match offered("server_max_window_bits") {
            None => true,
            // Nor is one met that is not answered.
            Some(bits) => {
                let is_kept = bits.is_some_and(|bits| (9..=15).contains(&bits) && window <= bits);
                is_kept && said("server_max_window_bits") == Some(Some(window.to_string().as_str()))
            }
        };
        // A client that has not named the parameter would fail the connection over it.
        let client_fits = match said("client_max_window_bits") {
            None => offered("client_max_window_bits").is_none_or(|bits| bits.is_none()),
            Some(bits) => offered("client_max_window_bits") == Some(bits.and_then(|bits| bits.parse().ok())),
        };
        let takes_over = policy.client_context_takeover && offered("client_no_context_takeover").is_none();
        offer.name == NAME && server_fits && client_fits && takes_over == agreed.client_context_takeover()
    };
    assert!(offers.iter().any(|offer| is_met(&offer)), "{:?} of {offers:?}", agreed.answer());
    assert!((9..=15).contains(&agreed.server_window_bits()));
    assert!(agreed.server_window_bits() <= policy.window_bits.max(9));
}

#[derive(PartialEq)]
enum Word {
    Token(String),
    Quoted(String),
    Sign(u8),
}

/// `1#( token *( ";" token [ "=" ( token / quoted-string ) ] ) )`: first the words, then what they make.
fn extensions(value: &[u8]) -> Option<Vec<Extension>> {
    let words = words(value)?;
    let elements = words.split(|word| *word == Word::Sign(b','));
    elements.filter(|element| !element.is_empty()).map(extension).collect()
}

fn extension(words: &[Word]) -> Option<Extension> {
    let mut parts = words.split(|word| *word == Word::Sign(b';'));
    let [Word::Token(name)] = parts.next()? else { return None };
    let parameter = |part: &[Word]| match part {
        [Word::Token(name)] => Some((name.clone(), None)),
        [Word::Token(name), Word::Sign(b'='), Word::Token(value)] => Some((name.clone(), Some(value.clone()))),
        [Word::Token(name), Word::Sign(b'='), Word::Quoted(value)] if is_token(value.as_bytes()) => {
            Some((name.clone(), Some(value.clone())))
        }
        _ => None,
    };
    Some(Extension { name: name.clone(), parameters: parts.map(parameter).collect::<Option<_>>()? })
}

fn words(value: &[u8]) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        words.push(match byte {
            b' ' | b'\t' => continue,
            b',' | b';' | b'=' => Word::Sign(byte),
            b'"' => {
                let mut content = String::new();
                loop {
                    match bytes.next()? {
                        b'"' => break Word::Quoted(content),
                        b'\\' => content.push(char::from(bytes.next()?)),
                        byte => content.push(char::from(byte)),
                    }
                }
            }
            byte if is_token(&[byte]) => {
                let mut token = String::from(char::from(byte));
                while let Some(byte) = bytes.next_if(|&byte| is_token(&[byte])) {
                    token.push(char::from(byte));
                }
                Word::Token(token)
            }
            _ => return None,
        });
    }
    Some(words)
}
