use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::domain::AnswerLimit;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn host(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn shop() -> Grants {
    let hosts = vec![host("shop.example")];
    Grants { hosts, ..Grants::names([name("shop"), name("shop2")]) }
}

/// Tokens without a store and with one: both must behave alike.
fn both() -> [(Tokens, Option<tempfile::TempDir>); 2] {
    let state = tempfile::tempdir().unwrap();
    [(Tokens::in_memory(), None), (Tokens::open(state.path()).unwrap(), Some(state))]
}

#[test]
fn an_issued_token_verifies_until_it_is_revoked() {
    for (tokens, _state) in both() {
        assert!(tokens.is_empty() && tokens.is_new());
        let (id, secret) = tokens.issue(shop()).unwrap();
        let (other, _) = tokens.issue(Grants::any()).unwrap();
        let verified = tokens.verify(&secret).unwrap();
        assert_eq!((&verified.id, &*verified.grants), (&id, &shop()));
        assert!(
            tokens.is_live(&id)
                && tokens.names_exactly(&name("shop"))
                && tokens.lists_host(&host("shop.example"))
        );
        assert!(!tokens.names_exactly(&name("else")), "a token for any name names none exactly");
        assert_eq!(tokens.list().len(), 2);

        assert!(tokens.revoke(&id).unwrap());
        assert!(!tokens.revoke(&id).unwrap(), "a second time there is nothing to revoke");
        assert!(tokens.verify(&secret).is_none() && !tokens.is_live(&id));
        assert!(!tokens.names_exactly(&name("shop")) && !tokens.lists_host(&host("shop.example")));
        assert!(tokens.is_live(&other) && !tokens.is_empty());
        assert!(tokens.revoke(&other).unwrap());
        assert!(tokens.is_empty() && !tokens.is_new());
    }
}

#[test]
fn clones_share_one_table() {
    let tokens = Tokens::in_memory();
    let (_, secret) = tokens.clone().issue(Grants::any()).unwrap();
    assert!(tokens.verify(&secret).is_some());
}

#[test]
fn tokens_and_revocations_survive_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (id, secret) = Tokens::open(state.path()).unwrap().issue(shop()).unwrap();
    let reopened = Tokens::open(state.path()).unwrap();
    assert_eq!(*reopened.verify(&secret).unwrap().grants, shop());
    assert!(reopened.list()[0].created.elapsed().unwrap().as_secs() < 60);
    assert!(reopened.revoke(&id).unwrap());
    let last = Tokens::open(state.path()).unwrap();
    assert!(last.is_empty() && !last.is_new());
}

#[test]
fn changes_by_another_process_are_detected() {
    let state = tempfile::tempdir().unwrap();
    let relay = Tokens::open(state.path()).unwrap();
    let command = Tokens::open(state.path()).unwrap();
    assert!(!relay.refresh_if_changed().unwrap());
    let (id, secret) = command.issue(shop()).unwrap();
    assert!(relay.verify(&secret).is_none());
    assert!(relay.refresh_if_changed().unwrap());
    assert!(relay.verify(&secret).is_some());
    assert!(!relay.refresh_if_changed().unwrap(), "nothing has changed since");
    assert!(command.revoke(&id).unwrap());
    assert!(relay.refresh_if_changed().unwrap());
    assert!(relay.verify(&secret).is_none());
}

#[test]
fn a_change_keeps_the_changes_of_other_processes() {
    let state = tempfile::tempdir().unwrap();
    let (one, two) = (Tokens::open(state.path()).unwrap(), Tokens::open(state.path()).unwrap());
    let (_, theirs) = two.issue(shop()).unwrap();
    let (_, ours) = one.issue(shop()).unwrap();
    assert!(one.verify(&theirs).is_some() && one.verify(&ours).is_some());
}

#[test]
fn several_openers_may_create_the_store_at_once() {
    let state = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let open = || Tokens::open(state.path()).and_then(|tokens| tokens.issue(shop()));
        let openers: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        for opener in openers {
            opener.join().unwrap().unwrap();
        }
    });
    assert_eq!(Tokens::open(state.path()).unwrap().list().len(), 8);
}

#[test]
fn only_the_owner_can_read_the_files_and_they_contain_no_secret() {
    let state = tempfile::tempdir().unwrap();
    let deep = state.path().join("a/b");
    let tokens = Tokens::open(&deep).unwrap();
    let (_, secret) = tokens.issue(shop()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&deep), 0o700);
    let part = secret.expose().rsplit_once('_').unwrap().1.as_bytes();
    let mut files = 0;
    for file in fs::read_dir(&deep).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert!(!fs::read(&path).unwrap().windows(part.len()).any(|w| w == part), "{}", path.display());
        files += 1;
    }
    assert!(files >= 2, "the database and its log");
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let state = tempfile::tempdir().unwrap();
    drop(Tokens::open(state.path()).unwrap());
    let file = state.path().join(FILE);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
    let error = Tokens::open(state.path()).err().unwrap();
    assert!(matches!(error, StoreError::Exposed(_)) && error.to_string().contains("chmod go-w"), "{error}");
}

#[test]
fn a_newer_or_damaged_file_is_reported() {
    let state = tempfile::tempdir().unwrap();
    drop(Tokens::open(state.path()).unwrap());
    let file = state.path().join(FILE);
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Tokens::open(state.path()), Err(StoreError::Newer { layout: 99, .. })));
    fs::write(&file, "this is no database, but it is long enough to look like something").unwrap();
    let error = Tokens::open(state.path()).err().unwrap();
    assert!(error.to_string().contains("ptth.db"), "{error}");
}

/// A token in the first layout, made by a program of that time.
const OLD: (&str, &str) = ("3c864cde8a89", "ptth_3c864cde8a89_ab-Ilt981lKtBsNmnlElQUnA-KHroJMerxKudNAe1qM");

#[test]
fn a_store_of_the_first_layout_opens() {
    let state = tempfile::tempdir().unwrap();
    let (id, secret) = OLD;
    let file = state.path().join(FILE);
    let old = rusqlite::Connection::open(&file).unwrap();
    super::layout::create(&old, 1).unwrap();
    let insert = "INSERT INTO token VALUES (?1, unhex(?2), 1, NULL), ('gone', zeroblob(32), 1, 2)";
    old.execute(insert, (id, "B44FCDADFC16EFC1B9917AE58DC065699ADBF4779F271EC1CBA176A7ED33EAB7")).unwrap();
    old.execute(
        "INSERT INTO claimable VALUES (?1, 'name', 'shop'), (?1, 'host', 'shop.example'), ('gone', 'any', '*')",
        [id],
    )
    .unwrap();
    drop(old);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let tokens = Tokens::open(state.path()).unwrap();
    let verified = tokens.verify(&Secret::new(secret)).unwrap();
    let grants = Grants { hosts: vec![host("shop.example")], ..Grants::names([name("shop")]) };
    assert_eq!((&*verified.id.0, &*verified.grants), (id, &grants));
    assert_eq!(tokens.list().len(), 1, "a revoked token stays revoked");
    let (_, fresh) = tokens.issue(limited()).unwrap();
    let reopened = Tokens::open(state.path()).unwrap();
    assert_eq!(*reopened.verify(&fresh).unwrap().grants, limited());
    assert!(reopened.verify(&Secret::new(secret)).is_some());
}

#[test]
fn a_token_of_the_second_layout_has_no_answer_timeout() {
    let state = tempfile::tempdir().unwrap();
    let (id, secret) = OLD;
    let file = state.path().join(FILE);
    let old = rusqlite::Connection::open(&file).unwrap();
    super::layout::create(&old, 2).unwrap();
    let insert = "INSERT INTO token VALUES (?1, unhex(?2), 1, NULL, NULL, 2, NULL, 7)";
    old.execute(insert, (id, "B44FCDADFC16EFC1B9917AE58DC065699ADBF4779F271EC1CBA176A7ED33EAB7")).unwrap();
    old.execute("INSERT INTO scope VALUES (?1, 'name', 'shop')", [id]).unwrap();
    drop(old);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let tokens = Tokens::open(state.path()).unwrap();
    let grants = tokens.verify(&Secret::new(secret)).unwrap().grants;
    assert_eq!(grants.to_string(), "name shop; sessions 2; in flight 7");
    let unlimited = Limits { answer_timeout: Some(AnswerLimit::NONE), ..Limits::default() };
    let (_, fresh) = tokens.issue(Grants { limits: unlimited.clone(), ..shop() }).unwrap();
    assert_eq!(Tokens::open(state.path()).unwrap().verify(&fresh).unwrap().grants.limits, unlimited);
}

fn limited() -> Grants {
    let limits = Limits {
        transports: vec!["ptth10".into()],
        sessions: std::num::NonZeroU32::new(2),
        rate: std::num::NonZeroU32::new(u32::MAX),
        in_flight: std::num::NonZeroU32::new(7),
        answer_timeout: Some(AnswerLimit::from_seconds(300)),
        expires: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9_999_999_999)),
    };
    let below = [Below::parse_host("*.shop.example"), Below::parse_name("*.shop")];
    let below = below.map(|below| below.unwrap().unwrap()).into();
    Grants { limits, below, prefixes: vec![Prefix::parse("team-*").unwrap().unwrap()], ..shop() }
}

#[test]
fn limits_survive_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (_, secret) = Tokens::open(state.path()).unwrap().issue(limited()).unwrap();
    assert_eq!(*Tokens::open(state.path()).unwrap().verify(&secret).unwrap().grants, limited());
}

#[test]
fn an_expired_token_is_invalid_and_stays_listed() {
    for (tokens, _state) in both() {
        let ends = |expires| Limits { expires: Some(expires), ..Limits::default() };
        let now = SystemTime::now();
        let past = ends(now - std::time::Duration::from_secs(1));
        let future = ends(now + std::time::Duration::from_secs(3600));
        let (id, secret) = tokens.issue(Grants { limits: past, ..shop() }).unwrap();
        assert!(tokens.verify(&secret).is_none() && tokens.find(&id).is_none() && !tokens.is_live(&id));
        assert!(!tokens.names_exactly(&name("shop")) && !tokens.lists_host(&host("shop.example")));
        assert!(tokens.is_empty() && !tokens.is_new());
        assert_eq!(tokens.list().len(), 1, "its owner can see why it does not work");
        let (_, secret) = tokens.issue(Grants { limits: future, ..shop() }).unwrap();
        assert!(tokens.verify(&secret).is_some() && tokens.names_exactly(&name("shop")));
        assert!(!tokens.is_empty());
    }
}
