//! The users of a listener: a file with a line `name:hash` for each, read at every login, so a change counts at once.
//!
//! Nobody learns by trying who is there: a name that is not takes as long as one that is, and as many are checked at a time.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher, SaltString};
use argon2::{Argon2, Params, PasswordVerifier};
use tokio::sync::Semaphore;
use tracing::warn;
use van_core::amqp::Password;
use van_tls::directory;

/// Passwords that are checked at the same time in a process. Each takes 19 MiB and a core for some hundredths of a second.
const MAX_VERIFYING: usize = 2;

/// What a hash may ask for: memory in KiB, and passes over it. (By default 19456 and 2.)
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;

static VERIFYING: Semaphore = Semaphore::const_new(MAX_VERIFYING);

/// Users and the hashes of their passwords.
#[derive(Debug, Clone)]
pub(crate) struct Users(Arc<Path>);

/// Why a file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} line {line}: {message}", path.display())]
    Line { path: PathBuf, line: usize, message: String },
}

impl Users {
    pub(crate) fn new(path: &str) -> Self {
        Self(Path::new(path).into())
    }

    /// Whether there is such a user with this password.
    pub(crate) async fn verify(&self, login: Password) -> bool {
        let Ok(turn) = VERIFYING.acquire().await else { return false };
        let users = self.clone();
        let verified = tokio::task::spawn_blocking(move || {
            // Held until it is over, also when nobody waits for the answer any more.
            let _turn = turn;
            users.verify_now(&login)
        });
        verified.await.unwrap_or(false)
    }

    fn verify_now(&self, login: &Password) -> bool {
        let text = match self.read() {
            Ok(text) => text,
            Err(error) => {
                warn!(%error, "nobody can log in");
                return false;
            }
        };
        let mut lines = users(&text).filter_map(|(_, user)| user.ok());
        let Some((first, decoy)) = lines.next() else { return false };
        let known = [(first, decoy.clone())].into_iter().chain(lines).find(|(name, _)| *name == login.user);
        let is_known = known.is_some();
        let hash = known.map_or(decoy, |(_, hash)| hash);
        Argon2::default().verify_password(login.password.reveal().as_bytes(), &hash).is_ok() && is_known
    }

    /// Checks the whole file.
    pub(crate) fn check(&self) -> Result<(), UsersError> {
        let text = self.read()?;
        for (line, user) in users(&text) {
            user.map_err(|message| UsersError::Line { path: self.0.to_path_buf(), line, message })?;
        }
        Ok(())
    }

    fn read(&self) -> Result<impl Deref<Target = String> + use<>, UsersError> {
        directory::read_secret(&self.0).map_err(|source| UsersError::Read { path: self.0.to_path_buf(), source })
    }
}

/// The users of a file by the numbers of their lines, or what is wrong with one. Lines may be empty, or comments.
fn users(text: &str) -> impl Iterator<Item = (usize, Result<(&str, PasswordHash<'_>), String>)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(number, line)| (number, user(line)))
}

/// The last colon counts: hashes have none, names may.
fn user(line: &str) -> Result<(&str, PasswordHash<'_>), String> {
    let (name, hash) = line.rsplit_once(':').filter(|(name, _)| !name.is_empty()).ok_or("expected `name:hash`")?;
    let unfit = |error| format!("user \"{name}\": {error}; make a hash with `van router hash-password`");
    let hash = PasswordHash::new(hash).map_err(|error| unfit(error.to_string()))?;
    argon2::Algorithm::try_from(hash.algorithm).map_err(|error| unfit(error.to_string()))?;
    let params = Params::try_from(&hash).map_err(|error| unfit(error.to_string()))?;
    if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
        return Err(unfit(format!("it asks for more than {MAX_MEMORY_KIB} KiB or {MAX_PASSES} passes")));
    }
    Ok((name, hash))
}

/// The hash of a password, as a file of users has it (Argon2id, with a salt of its own).
///
/// # Errors
/// The system gives no randomness, or the password is longer than 4 GiB.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| HashError(error.to_string()))?;
    let hash = SaltString::encode_b64(&salt)
        .and_then(|salt| Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string()));
    hash.map_err(|error| HashError(error.to_string()))
}

/// Why a password has no hash.
#[derive(Debug, thiserror::Error)]
#[error("cannot hash the password: {0}")]
pub struct HashError(String);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn login(user: &str, password: &str) -> Password {
        Password { user: user.into(), password: password.into() }
    }

    fn file(text: &str) -> (tempfile::NamedTempFile, Users) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, text).expect("written");
        let users = Users::new(file.path().to_str().expect("UTF-8"));
        (file, users)
    }

    #[tokio::test]
    async fn a_user_is_whom_the_file_says_now() {
        let (path, users) = file(&format!("# us\n\nalice:{}\n", hash_password("sesame").expect("a hash")));
        users.check().expect("fit");
        assert!(users.verify(login("alice", "sesame")).await);
        for (user, password) in [("alice", "Sesame"), ("bob", "sesame"), ("", ""), ("# us", "sesame")] {
            assert!(!users.verify(login(user, password)).await, "{user} {password}");
        }
        fs::write(&path, format!("bob:smith:{}", hash_password("").expect("a hash"))).expect("written");
        assert!(!users.verify(login("alice", "sesame")).await);
        assert!(users.verify(login("bob:smith", "")).await);
        drop(path);
        assert!(!users.verify(login("bob:smith", "")).await);
    }

    #[test]
    fn a_line_that_is_no_user_is_named() {
        let hash = hash_password("x").expect("a hash");
        let greedy = hash.replace("m=19456", "m=4194304");
        for (line, expected) in [
            ("alice", "expected `name:hash`"),
            ("alice:secret", "user \"alice\": "),
            (":$argon2id$", "expected `name:hash`"),
            (&format!("alice:{greedy}"), "it asks for more than"),
            (&format!("alice:{}", hash.replace("argon2id", "scrypt")), "user \"alice\": "),
        ] {
            let (_file, users) = file(&format!("root:{hash}\n{line}\n"));
            let error = users.check().expect_err(line).to_string();
            assert!(error.contains(" line 2: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn each_hash_has_its_own_salt() {
        assert_ne!(hash_password("x").expect("a hash"), hash_password("x").expect("a hash"));
    }
}
