use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use maxscale_core::clock::Clock;
use tokio::task::spawn_blocking;

use super::message::{Writer, token};
use super::{Letter, Mail, Mailer, MailerError};

/// Writes each mail as a file `.eml` into a folder: for a service that runs on one's
/// own machine, and for tests.
///
/// A file is there as a whole or not at all, and only its owner may read it: it holds a
/// link that is as good as a password. Names sort by time. Nothing deletes them.
#[derive(Clone, Debug)]
pub struct FileMailer {
    folder: PathBuf,
    writer: Writer,
}

// === impl FileMailer ===

impl FileMailer {
    /// Writes into `folder`, which is made if need be, in the name of `from`
    /// (`Acme <no-reply@acme.example>`), and in these words (see
    /// [`english`](super::english)).
    ///
    /// # Errors
    ///
    /// Returns [`MailerError`] if `from` is no address, or the folder cannot be made.
    pub fn new(
        folder: impl Into<PathBuf>,
        from: &str,
        words: impl Fn(&Mail) -> Letter + Send + Sync + 'static,
    ) -> Result<Self, MailerError> {
        let folder = folder.into();
        let writer = Writer::new(from, words)?;
        fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        Ok(Self { folder, writer })
    }

    /// Sets the clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.writer.set_clock(clock);
        self
    }
}

impl Mailer for FileMailer {
    type Error = MailerError;

    /// Writes the file. Dropped, it may still do so.
    async fn send(&self, mail: &Mail) -> Result<(), MailerError> {
        let message = self.writer.message(mail)?.formatted();
        // Twenty digits of microseconds sort as text does.
        let now = self.writer.clock().now().as_micros();
        let name = format!("{now:020}-{}", token()?);
        let folder = self.folder.clone();
        let write = spawn_blocking(move || {
            write(&folder, &name, &message).map_err(|source| failed(&folder, source))
        });
        let stopped = |_| failed(&self.folder, io::ErrorKind::Interrupted.into());
        write.await.map_err(stopped)?
    }
}

/// Under another name until it is whole.
fn write(folder: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!(".{name}"));
    let written = create(&partial).and_then(|mut file| {
        file.write_all(message)?;
        file.sync_all()
    });
    let named = written.and_then(|()| fs::rename(&partial, folder.join(format!("{name}.eml"))));
    if named.is_err() {
        // What stays of it is no mail, as its name says.
        let _ = fs::remove_file(&partial);
    }
    named
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn failed(folder: &Path, source: io::Error) -> MailerError {
    MailerError::Folder {
        folder: folder.to_owned(),
        source,
    }
}
