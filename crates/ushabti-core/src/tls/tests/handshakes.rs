//! What clients see of the certificates, and the server of theirs.

use super::*;

#[test]
fn clients_are_shown_the_certificate_of_the_name_they_ask_for() {
    let folder = Folder::new();
    let files: Vec<_> = [
        ("first", &["first.example"][..]),
        ("wild", &["*.wild.example", "wild.example"]),
        ("exact", &["exact.wild.example", "UPPER.example"]),
        ("address", &["127.0.0.1"]),
    ]
    .into_iter()
    .map(|(name, hosts)| folder.identity(name, hosts))
    .collect();
    let tls = Tls::load(settings(files.clone())).expect("all is well");
    let client = Client::default().config();
    for (name, wanted) in [
        ("first.example", 0),
        ("www.wild.example", 1),
        ("wild.example", 1),
        ("WWW.Wild.Example", 1),
        // A wildcard stands for one label.
        ("a.b.wild.example", 0),
        ("exact.wild.example", 2),
        ("upper.example", 2),
        ("nobody.example", 0),
        // Clients ask for addresses without a name.
        ("127.0.0.1", 0),
    ] {
        let shaken = handshake(&tls, &client, name).expect("a handshake");
        assert_eq!(shaken.shown, der_of(&files[wanted].certificate), "{name}");
        let sent = name.parse::<IpAddr>().is_err().then(|| name.to_ascii_lowercase());
        assert_eq!(shaken.info.server_name, sent);
    }
}

#[test]
fn of_two_certificates_for_a_name_the_client_is_shown_the_one_that_it_can_verify() {
    let folder = Folder::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("there is chance enough");
    let certificate = params(&["a.example"]).self_signed(&key).expect("it can be signed").pem();
    let strong = folder.files("strong", &certificate, &key.serialize_pem());
    let usual = folder.identity("usual", &["a.example"]);
    let tls = Tls::load(settings(vec![strong.clone(), usual.clone()])).expect("all is well");
    let old = Client { schemes: &ANY_SCHEME[..1], ..Client::default() };
    for (client, wanted) in [(Client::default(), strong), (old, usual)] {
        let shaken = handshake(&tls, &client.config(), "a.example").expect("a handshake");
        assert_eq!(shaken.shown, der_of(&wanted.certificate));
    }
}

#[test]
fn what_was_agreed_on_is_told_by_its_registered_names() {
    let folder = Folder::new();
    let tls = Tls::load(settings(vec![folder.identity("a", &["a.example"])])).expect("all is well");
    for (versions, protocols, wanted) in [
        (TLS13, BOTH, ("1.3", "TLS_AES_256_GCM_SHA384", Some("h2"))),
        (TLS12, &[b"http/1.1"], ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some("http/1.1"))),
        (TLS13, &[], ("1.3", "TLS_AES_256_GCM_SHA384", None)),
    ] {
        let client = Client { versions, protocols, ..Client::default() };
        let info = handshake(&tls, &client.config(), "a.example").expect("a handshake").info;
        assert_eq!((info.version, info.cipher.as_str(), info.protocol.as_deref()), wanted);
        assert_eq!(info.client, None);
    }
}

#[test]
fn http2_is_not_offered_where_it_is_off() {
    let folder = Folder::new();
    let files = vec![folder.identity("a", &["a.example"])];
    let tls = Tls::load(Settings { http2: false, ..settings(files) }).expect("all is well");
    let client = |protocols| Client { protocols, ..Client::default() }.config();
    let both = handshake(&tls, &client(&[b"h2", b"http/1.1"]), "a.example").expect("a handshake");
    assert_eq!(both.info.protocol.as_deref(), Some("http/1.1"));
    let problem = handshake(&tls, &client(&[b"h2"]), "a.example").expect_err("there is nothing to agree on");
    assert_eq!(problem, Error::NoApplicationProtocol);
}

#[test]
fn certificates_of_clients_are_asked_for_verified_and_read() {
    let folder = Folder::new();
    let trusted = authority("Trusted Authority");
    let stranger = authority("Stranger");
    let roots = folder.write("clients.pem", trusted.pem());
    let identity = |issuer: &CertifiedIssuer<'static, KeyPair>| {
        let mut params = params(&["ani.example", "192.0.2.7", "2001:db8::7"]);
        params.subject_alt_names.push(SanType::Rfc822Name("ani@example.com".try_into().expect("ASCII")));
        params.subject_alt_names.push(SanType::URI("spiffe://example/ani".try_into().expect("ASCII")));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Scribes, Ltd");
        params.distinguished_name.push(DnType::CommonName, "Ani");
        params.serial_number = Some(SerialNumber::from_slice(&[0x80, 0x01]));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = new_key();
        let certificate = params.signed_by(&key, issuer).expect("it can be signed");
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()))
    };
    let (known, unknown) = (identity(&trusted), identity(&stranger));
    let shake = |clients: Clients, identity: Option<&(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>)>| {
        let tls = Tls::load(Settings { clients, ..settings(vec![folder.identity("a", &["a.example"])]) });
        let identity = identity.map(|(certificate, key)| (certificate.clone(), key.clone_key()));
        handshake(&tls.expect("all is well"), &Client { identity, ..Client::default() }.config(), "a.example")
    };
    for (clients, identity, is_let_in) in [
        (Clients::Required(roots.clone()), Some(&known), true),
        (Clients::Required(roots.clone()), Some(&unknown), false),
        (Clients::Required(roots.clone()), None, false),
        (Clients::Optional(roots.clone()), Some(&known), true),
        (Clients::Optional(roots.clone()), Some(&unknown), false),
        (Clients::Optional(roots.clone()), None, true),
        (Clients::Ignored, Some(&unknown), true),
    ] {
        let case = format!("{clients:?}");
        let is_asked = !matches!(clients, Clients::Ignored);
        let shaken = shake(clients, identity);
        assert_eq!(shaken.is_ok(), is_let_in, "{case}: {shaken:?}");
        let Ok(shaken) = shaken else { continue };
        assert_eq!(shaken.info.client.is_some(), is_asked && identity.is_some(), "{case}");
    }
    let seen =
        shake(Clients::Required(roots), Some(&known)).expect("it is known").info.client.expect("it was asked for");
    assert_eq!(seen.subject, "CN=Ani,O=Scribes\\, Ltd");
    assert_eq!(seen.common_name.as_deref(), Some("Ani"));
    assert!(seen.issuer.contains("CN=Trusted Authority"), "{}", seen.issuer);
    let names = ["ani.example", "192.0.2.7", "2001:db8::7", "ani@example.com", "spiffe://example/ani"];
    assert_eq!(seen.names, names);
    assert_eq!(seen.serial, "8001");
    assert_eq!(seen.not_after - seen.not_before, 91 * DAY_S);
    assert_eq!(seen.der, known.0.to_vec());
    assert_eq!(seen.fingerprint, x509::fingerprint(&known.0));
    assert_eq!(seen.fingerprint.len(), 64);
}

#[test]
fn sessions_are_resumed_until_the_certificates_are_loaded_again() {
    let folder = Folder::new();
    let tls = Tls::load(settings(vec![folder.identity("a", &["a.example"])])).expect("all is well");
    for versions in [TLS13, TLS12] {
        let client = Client { versions, ..Client::default() }.config();
        let resumed = || handshake(&tls, &client, "a.example").expect("a handshake").is_resumed;
        assert!(!resumed());
        assert!(resumed());
        tls.reload().expect("nothing has changed");
        assert!(!resumed());
        assert!(resumed());
    }
}

#[test]
fn a_resumed_client_is_known_by_its_certificate_and_name() {
    let folder = Folder::new();
    let trusted = authority("Trusted Authority");
    let mut params = params(&["ani.example"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = new_key();
    let certificate = params.signed_by(&key, &trusted).expect("it can be signed").der().clone();
    let clients = Clients::Required(folder.write("clients.pem", trusted.pem()));
    let files = vec![folder.identity("a", &["a.example"])];
    let tls = Tls::load(Settings { clients, ..settings(files) }).expect("all is well");
    let identity = Some((certificate.clone(), PrivatePkcs8KeyDer::from(key.serialize_der())));
    let client = Client { identity, ..Client::default() }.config();
    for is_resumed in [false, true] {
        let shaken = handshake(&tls, &client, "a.example").expect("a handshake");
        assert_eq!(shaken.is_resumed, is_resumed);
        assert_eq!(shaken.info.client.expect("a certificate").der, certificate.to_vec());
        assert_eq!(shaken.info.server_name.as_deref(), Some("a.example"));
    }
}
