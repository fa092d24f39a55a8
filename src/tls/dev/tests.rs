use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

fn hosts(texts: &[&str]) -> Vec<CertHost> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_host_is_a_name_a_star_or_an_address() {
    assert!(matches!(hosts(&["a.test", "*.a.test"])[..], [CertHost::Name(_), CertHost::Wildcard(_)]));
    assert_eq!(hosts(&["[::1]", "127.0.0.1"]), hosts(&["::1", "127.0.0.1"]));
    for bad in ["", "*", "*.", "a.*.test", "**.test", "https://a.test", "a.test:1"] {
        assert!(bad.parse::<CertHost>().is_err(), "{bad:?}");
    }
    let error = "*.localhost".parse::<CertHost>().unwrap_err().to_string();
    assert!(error.contains("*.ptth.localhost"), "{error}");
}

#[test]
fn hosts_of_this_machine_are_added_once() {
    let all = with_local(&hosts(&["localhost", "a.test", "a.test"]));
    assert_eq!(all, hosts(&["localhost", "a.test", "127.0.0.1", "::1"]));
}

#[test]
fn six_files_are_written_and_none_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("certs");
    let paths = write_dir(&out, &hosts(&["a.test"])).unwrap();
    let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["ca.pem", "ca-key.pem", "relay.pem", "relay-key.pem", "agent.pem", "agent-key.pem"]);
    for path in paths.iter().filter(|path| path.to_str().unwrap().ends_with("-key.pem")) {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let before = fs::read(&paths[0]).unwrap();
    for path in &paths[..5] {
        fs::remove_file(path).unwrap();
    }
    let error = write_dir(&out, &hosts(&["a.test"])).unwrap_err();
    assert!(matches!(&error, DevError::Exists(path) if path == &paths[5]), "{error}");
    assert!(!paths[0].exists(), "nothing is written if one of the files exists");
    assert!(!before.is_empty());
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn existing_certificates_are_reused() {
    let state = tempfile::tempdir().unwrap();
    let first = load_or_make(state.path(), &hosts(&["a.test", "*.a.test"])).unwrap();
    assert!(first.new_ca);
    let (ca, cert) = (read(&first.ca), read(&first.cert));
    fs::remove_file(state.path().join("ca-key.pem")).unwrap();
    let second = load_or_make(state.path(), &hosts(&["b.a.test"])).unwrap();
    assert!(!second.new_ca, "b.a.test is covered, and the key of the CA is not needed");
    assert_eq!((read(&second.ca), read(&second.cert)), (ca, cert));
}

#[test]
fn a_new_certificate_keeps_the_ca_if_the_ca_may_sign_it() {
    let state = tempfile::tempdir().unwrap();
    let first = load_or_make(state.path(), &hosts(&["a.test", "*.a.test"])).unwrap();
    let (ca, cert) = (read(&first.ca), read(&first.cert));
    let deeper = load_or_make(state.path(), &hosts(&["a.test", "*.b.a.test"])).unwrap();
    assert!(!deeper.new_ca);
    assert_eq!(read(&deeper.ca), ca);
    assert_ne!(read(&deeper.cert), cert);
    let elsewhere = load_or_make(state.path(), &hosts(&["b.test"])).unwrap();
    assert!(elsewhere.new_ca);
    assert_ne!(read(&elsewhere.ca), ca);
}

#[test]
fn a_damaged_pair_is_made_again_and_an_exposed_key_refused() {
    let state = tempfile::tempdir().unwrap();
    let files = load_or_make(state.path(), &hosts(&["a.test"])).unwrap();
    fs::write(&files.cert, "damaged").unwrap();
    assert!(!load_or_make(state.path(), &hosts(&["a.test"])).unwrap().new_ca);
    assert!(String::from_utf8(read(&files.cert)).unwrap().contains("BEGIN CERTIFICATE"));
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o622)).unwrap();
    let error = load_or_make(state.path(), &hosts(&["a.test"])).err().unwrap();
    assert!(error.to_string().contains("chmod go-w"), "{error}");
}
