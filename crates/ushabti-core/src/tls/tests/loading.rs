//! What is made of files: refused, warned of, taken in while the server runs.

use super::*;

#[test]
fn what_cannot_be_used_is_said_in_one_sentence_with_the_file() {
    let folder = Folder::new();
    let (certificate, key) = made(&params(&["a.example"]));
    let (other, other_key) = made(&params(&["b.example"]));
    let dated = |from, to| {
        let mut params = params(&["a.example"]);
        set_dates(&mut params, from, to);
        made(&params)
    };
    let (expired, expired_key) = dated(unix_now() - 9 * DAY_S, unix_now() - DAY_S);
    let (early, early_key) = dated(unix_now() + DAY_S, unix_now() + 9 * DAY_S);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old_encrypted =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let strange_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = certificate.split_once("-----END").expect("there is an end").0;
    let both = |first: &str, second: &str| format!("{first}{second}");
    let long = "#".repeat(1024 * 1024 + 1);
    for (number, (certificate, key, at_fault, words)) in (0..).zip([
        ("", key.as_str(), "pem", "not in PEM form"),
        ("\u{30}\u{82}", &key, "pem", "not in PEM form"),
        (&key, &key, "pem", "no certificate in it"),
        (cut, &key, "pem", "cut off"),
        (rubbish, &key, "pem", "certificate 1 in it cannot be read"),
        (&long, &key, "pem", "more than 1048576 bytes"),
        (&certificate, "", "key", "not in PEM form"),
        (&certificate, &certificate, "key", "no private key in it"),
        (&certificate, &both(&key, &other_key), "key", "several private keys"),
        (&certificate, encrypted, "key", "the key is encrypted"),
        (&certificate, old_encrypted, "key", "the key is encrypted"),
        (&certificate, strange_key, "key", "of no kind that can be used"),
        (&certificate, &other_key, "pem", ".key belongs to another certificate"),
        (&both(&other, &certificate), &key, "pem", "has to stand first, and its key fits number 2"),
        (&expired, &expired_key, "pem", "has expired on 20"),
        (&early, &early_key, "pem", "is the clock right?"),
    ]) {
        let files = folder.files(&format!("case{number}"), certificate, key);
        let message = refusal(settings(vec![files]));
        let begin = format!("cannot use {}", folder.0.join(format!("case{number}.{at_fault}")).display());
        assert!(message.starts_with(&begin) && message.contains(words), "{number}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = Folder::new();
    let good = folder.identity("good", &["a.example"]);
    let missing = Files { certificate: folder.0.join("missing.pem"), key: good.key.clone() };
    assert!(refusal(settings(vec![missing])).ends_with("missing.pem: there is no such file"));
    let directory = Files { certificate: good.certificate.clone(), key: folder.0.clone() };
    assert!(refusal(settings(vec![directory])).ends_with("it is not a regular file"));
    assert!(refusal(settings(Vec::new())).contains("needs a certificate"));
}

#[test]
fn authorities_are_checked_before_the_first_client_comes() {
    let folder = Folder::new();
    for (name, text, words) in [
        ("empty.pem", "", "not in PEM form"),
        ("key.pem", new_key().serialize_pem().as_str(), "no certificate in it"),
        (
            "rubbish.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 in it is no authority's",
        ),
    ] {
        let path = folder.write(name, text);
        let clients = Clients::Required(path.clone());
        let message = refusal(Settings { clients, ..settings(vec![folder.identity("a", &["a.example"])]) });
        assert!(message.contains(&path.display().to_string()) && message.contains(words), "{name}: {message}");
    }
}

#[test]
fn new_files_are_taken_in_and_broken_ones_are_not() {
    let folder = Folder::new();
    let files = folder.identity("a", &["a.example"]);
    let tls = Tls::load(settings(vec![files.clone()])).expect("all is well");
    let client = Client::default().config();
    let shown = || handshake(&tls, &client, "a.example").expect("a handshake").shown;
    let first = der_of(&files.certificate);
    assert!(!tls.has_changed());
    assert_eq!(shown(), first);

    folder.identity("a", &["a.example"]);
    let second = der_of(&files.certificate);
    assert!(!tls.has_changed(), "they may be half written still");
    assert!(tls.has_changed());
    assert_eq!(shown(), first);
    tls.reload().expect("they fit");
    assert_eq!(shown(), second);
    assert!(!tls.has_changed());

    folder.write("a.key", new_key().serialize_pem());
    assert!(!tls.has_changed());
    assert!(tls.has_changed());
    let problem = tls.reload().expect_err("the key is another one's");
    assert!(problem.message.contains("belongs to another certificate"), "{problem}");
    assert_eq!(shown(), second);
    assert!(!tls.has_changed(), "it was tried, and would fail again");

    fs::remove_file(&files.certificate).expect("it is there");
    assert!(!tls.has_changed());
    assert!(tls.has_changed());
    assert!(tls.reload().expect_err("it is gone").message.contains("no such file"));
    assert_eq!(shown(), second);
}

#[test]
fn files_that_are_being_written_are_left_alone() {
    let folder = Folder::new();
    let files = folder.identity("a", &["a.example"]);
    let tls = Tls::load(settings(vec![files])).expect("all is well");
    for round in 0..3 {
        folder.write("a.pem", "#".repeat(round));
        assert!(!tls.has_changed(), "{round}");
    }
    assert!(tls.has_changed());
}

#[test]
fn a_link_that_is_turned_to_another_file_is_a_change() {
    let folder = Folder::new();
    let (old, new) = (folder.identity("old", &["a.example"]), folder.identity("new", &["a.example"]));
    let link = Files { certificate: folder.0.join("now.pem"), key: folder.0.join("now.key") };
    let turn = |to: &Files| {
        for (link, file) in [(&link.certificate, &to.certificate), (&link.key, &to.key)] {
            let _ = fs::remove_file(link);
            std::os::unix::fs::symlink(file, link).expect("a link can be made");
        }
    };
    turn(&old);
    let tls = Tls::load(settings(vec![link.clone()])).expect("all is well");
    turn(&new);
    assert!(!tls.has_changed() && tls.has_changed());
    tls.reload().expect("they fit");
    let shaken = handshake(&tls, &Client::default().config(), "a.example").expect("a handshake");
    assert_eq!(shaken.shown, der_of(&new.certificate));
}

#[test]
fn what_may_keep_clients_away_is_warned_of() {
    let folder = Folder::new();
    let root = authority("Root");
    let mut short = params(&["a.example"]);
    set_dates(&mut short, unix_now() - DAY_S, unix_now() + 13 * DAY_S);
    let key = new_key();
    let ending = short.signed_by(&key, &root).expect("it can be signed").pem();
    let lasting = params(&["a.example"]).signed_by(&key, &root).expect("it can be signed").pem();
    let stranger = authority("Stranger").pem();
    let mut old = params(&[]);
    old.distinguished_name.push(DnType::CommonName, "Root");
    set_dates(&mut old, unix_now() - 9 * DAY_S, unix_now() - DAY_S);
    let old = old.self_signed(&new_key()).expect("it can be signed").pem();
    for (name, chain, warnings) in [
        ("good", format!("{lasting}{}", root.pem()), &[][..]),
        ("alone", lasting.clone(), &[]),
        ("ending", ending.clone(), &["ends on 20"]),
        ("unordered", format!("{lasting}{stranger}"), &["certificate 2 is not that of the issuer of certificate 1"]),
        ("old issuer", format!("{lasting}{old}"), &["certificate 2 holds from 20"]),
        ("both", format!("{ending}{stranger}"), &["certificate 2 is not", "ends on 20"]),
    ] {
        let tls = Tls::load(settings(vec![folder.files(name, &chain, &key.serialize_pem())])).expect("it is served");
        let found = tls.warnings();
        assert_eq!(found.len(), warnings.len(), "{name}: {found:?}");
        for (sentence, words) in found.iter().zip(warnings) {
            assert!(sentence.contains(words) && sentence.contains(&format!("{name}.pem")), "{sentence}");
        }
    }
}

#[test]
fn a_key_may_stand_in_the_file_of_its_certificate() {
    let folder = Folder::new();
    let (certificate, key) = made(&params(&["a.example"]));
    let both = folder.write("both.pem", format!("{key}{certificate}"));
    Tls::load(settings(vec![Files { certificate: both.clone(), key: both }])).expect("both are there");
}

#[test]
fn a_certificate_for_development_names_its_hosts_and_stays_the_same() {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let development = Settings { self_signed: Some(names), ..settings(Vec::new()) };
    let tls = Tls::load(development.clone()).expect("it is made");
    let client = Client::default().config();
    let shown = handshake(&tls, &client, "localhost").expect("a handshake").shown;
    assert_eq!(Some(x509::fingerprint(&shown)), tls.self_signed_fingerprint());
    assert_eq!(tls.self_signed_certificate(), Some(shown.as_slice()));
    let read = x509::Certificate::read(&shown).expect("a certificate");
    let names: Vec<_> = read.names().into_iter().map(x509::SubjectName::into_text).collect();
    assert_eq!(names, ["localhost", "127.0.0.1", "::1"]);
    let (not_before, not_after) = read.validity();
    assert!(not_before < unix_now() && (29 * DAY_S..=30 * DAY_S).contains(&(not_after - unix_now())));
    assert!(tls.warnings().is_empty() && !tls.has_changed());
    tls.reload().expect("there is nothing to read");
    assert_eq!(handshake(&tls, &client, "localhost").expect("a handshake").shown, shown);
    let other = Tls::load(development).expect("it is made");
    assert_ne!(other.self_signed_fingerprint(), tls.self_signed_fingerprint());
}

#[test]
fn keys_are_not_in_what_is_shown_of_it() {
    let folder = Folder::new();
    let tls = Tls::load(settings(vec![folder.identity("a", &["a.example"])])).expect("all is well");
    let shown = format!("{tls:?}");
    assert!(shown.contains("a.pem") && shown.ends_with(".. }"), "{shown}");
}
