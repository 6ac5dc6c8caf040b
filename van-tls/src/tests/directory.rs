use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::directory::{self, CA_FILE, CERTIFICATE_FILE, KEY_FILE, LoadError, ProfileFiles};

fn same(left: &Credentials, right: &Credentials) -> bool {
    left.identity.key_pem() == right.identity.key_pem()
        && left.identity.chain_pem() == right.identity.chain_pem()
        && left.trust.pem() == right.trust.pem()
}

#[test]
fn what_was_written_is_read() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("certs/west");
    for west in [west(), west()] {
        directory::write(&folder, &west).unwrap();
        assert!(same(&directory::read(&folder).unwrap(), &west));
    }
    // Nothing is left of the drafts.
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn only_the_owner_may_read_the_key() {
    let folder = tempfile::tempdir().unwrap();
    directory::write(folder.path(), &west()).unwrap();
    let mode = |file: &str| fs::metadata(folder.path().join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(KEY_FILE), 0o600);
    assert_eq!(mode(CERTIFICATE_FILE), 0o644 & mode(CA_FILE));
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file);
    let check = |file: &str, content: Option<&str>, expected: &str| {
        directory::write(folder.path(), &west()).unwrap();
        match content {
            Some(content) => fs::write(path(file), content).unwrap(),
            None => fs::remove_file(path(file)).unwrap(),
        }
        let error = directory::read(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} {expected}", path(file).display()));
        error
    };
    for file in [CERTIFICATE_FILE, KEY_FILE, CA_FILE] {
        check(file, None, "is absent");
        check(file, Some("nothing of PEM"), "cannot be used");
        let unreadable = || {
            fs::remove_file(path(file)).unwrap();
            fs::create_dir(path(file)).unwrap();
            let error = directory::read(folder.path()).unwrap_err();
            fs::remove_dir(path(file)).unwrap();
            assert_eq!(error.to_string(), format!("{} cannot be read", path(file).display()));
        };
        unreadable();
    }
    let stranger = west().identity;
    let mismatch = format!("is not the key of {}; replace both", path(CERTIFICATE_FILE).display());
    check(KEY_FILE, Some(stranger.key_pem()), &mismatch);
}

/// A router that was told of /dev/zero read on until it was killed.
#[test]
fn files_without_an_end_and_things_that_are_no_files_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    File::create(&large).unwrap().set_len((1 << 20) + 1).unwrap();
    for (path, expected) in [
        (Path::new("/dev/zero"), "it is no regular file"),
        (folder.path(), "it is no regular file"),
        (&large, "it has more than 1048576 octets"),
    ] {
        assert_eq!(directory::read_secret(path).unwrap_err().to_string(), expected);
    }
}

#[test]
fn folder_that_cannot_be_written_keeps_what_it_has() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("not a folder");
    fs::write(&file, "").unwrap();
    let error = directory::write(&file, &west()).unwrap_err();
    assert!(error.to_string().ends_with("not a folder"), "{error}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn reader_never_gets_a_key_of_another_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [west(), west()];
    directory::write(folder.path(), &first).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..20 {
                directory::write(folder.path(), &second).unwrap();
                directory::write(folder.path(), &first).unwrap();
            }
        });
        while !writer.is_finished() {
            match directory::read(folder.path()) {
                Ok(read) => assert!(same(&read, &first) || same(&read, &second)),
                Err(error) => assert!(matches!(error, LoadError::KeyMismatch { .. }), "{error}"),
            }
        }
    });
    assert!(same(&directory::read(folder.path()).unwrap(), &first));
}

#[test]
fn profile_reads_those_files_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    directory::write(folder.path(), &west()).unwrap();
    let [certificate, key, ca] = [CERTIFICATE_FILE, KEY_FILE, CA_FILE].map(|file| Some(folder.path().join(file)));

    let none = ProfileFiles::default().read().unwrap();
    assert!(none.identity.is_none() && none.trust.is_none());
    let client = ProfileFiles { ca: ca.clone(), ..Default::default() }.read().unwrap();
    assert!(client.identity.is_none() && client.trust.is_some());
    let all = ProfileFiles { certificate, key: key.clone(), ca }.read().unwrap();
    assert!(all.identity.is_some() && all.trust.is_some());
    let half = ProfileFiles { key, ..Default::default() }.read().unwrap_err();
    assert!(matches!(half, LoadError::HalfIdentity { .. }));
}

/// A key as it is, encrypted (RFC 8018, PBES2).
fn encrypted(key: &str, password: &str) -> String {
    let (_, der) = pem_rfc7468::decode_vec(key.as_bytes()).unwrap();
    let parameters = pkcs8::pkcs5::pbes2::Parameters::pbkdf2_sha256_aes256cbc(1000, b"saltsalt", &[7; 16]).unwrap();
    let key = pkcs8::PrivateKeyInfo::try_from(der.as_slice()).unwrap();
    let key = key.encrypt_with_params(parameters, password).unwrap();
    pem_rfc7468::encode_string("ENCRYPTED PRIVATE KEY", pem_rfc7468::LineEnding::LF, key.as_bytes()).unwrap()
}

#[test]
fn an_encrypted_key_is_read_with_its_password_and_with_no_other() {
    let (folder, west) = (tempfile::tempdir().unwrap(), west());
    directory::write(folder.path(), &west).unwrap();
    let [certificate, key] = [CERTIFICATE_FILE, KEY_FILE].map(|file| folder.path().join(file));
    fs::write(&key, encrypted(west.identity.key_pem(), "pass:word")).unwrap();
    let files = ProfileFiles { certificate: Some(certificate), key: Some(key), ca: None };
    let read = files.read_encrypted(Some("pass:word")).unwrap().identity.unwrap();
    assert_eq!(read.certificate().subject, west.identity.certificate().subject);
    for (password, expected) in [(None, "name its password"), (Some("password"), "is the password right?")] {
        let LoadError::Unusable { path, source } = files.read_encrypted(password).unwrap_err() else { panic!() };
        assert!(path.ends_with(KEY_FILE) && source.to_string().contains(expected), "{source}");
    }
}

#[test]
fn a_password_for_a_key_that_is_not_encrypted_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    directory::write(folder.path(), &west()).unwrap();
    let [certificate, key] = [CERTIFICATE_FILE, KEY_FILE].map(|file| Some(folder.path().join(file)));
    let files = ProfileFiles { certificate, key, ca: None };
    assert!(files.read_encrypted(Some("any")).unwrap().identity.is_some());
}
