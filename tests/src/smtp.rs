//! A server that takes mail, to read what a service sends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Takes every mail and keeps it (RFC 5321, as far as a mailer needs it).
///
/// It listens on 127.0.0.1 and ends when it is dropped.
#[derive(Debug)]
pub struct SmtpServer {
    url: String,
    taken: Arc<Mutex<Taken>>,
    task: JoinHandle<()>,
}

/// A mail as the server got it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests read it")]
pub struct TakenMail {
    /// The sender of its envelope.
    pub from: String,
    /// The recipients of its envelope.
    pub to: Vec<String>,
    /// Its headers and its text, lines ended by `\n`.
    pub text: String,
}

#[derive(Debug, Default)]
struct Taken {
    mails: Vec<TakenMail>,
    refusal: Option<String>,
}

// === impl SmtpServer ===

impl SmtpServer {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port of 127.0.0.1 is free");
        let address = listener.local_addr().expect("it listens");
        let taken = Arc::<Mutex<Taken>>::default();
        let task = tokio::spawn(serve(listener, taken.clone()));
        Self {
            url: format!("smtp://{address}"),
            taken,
            task,
        }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has taken until now, the oldest first.
    pub fn mails(&self) -> Vec<TakenMail> {
        self.taken().mails.clone()
    }

    /// Answers every recipient with this line from now on: `550 no such user`.
    pub fn refuse(&self, line: &str) {
        self.taken().refusal = Some(line.to_owned());
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        lock(&self.taken)
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TakenMail {
    /// The first word of its text that begins so: a link, for instance.
    pub fn word(&self, start: &str) -> Option<&str> {
        self.text
            .split_whitespace()
            .find(|it| it.starts_with(start))
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, taken: Arc<Mutex<Taken>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let taken = taken.clone();
        tokio::spawn(async move {
            // A client that hangs up has said all that it had to.
            let _ = talk(stream, &taken).await;
        });
    }
}

async fn talk(stream: TcpStream, taken: &Mutex<Taken>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink\r\n").await?;
    let mut mail = TakenMail::default();
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let word = line.split([' ', ':', '\r']).next().unwrap_or_default();
        let answer = match &*word.to_ascii_uppercase() {
            "EHLO" => "250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8".to_owned(),
            "MAIL" => {
                mail = TakenMail {
                    from: path(&line),
                    ..TakenMail::default()
                };
                "250 ok".to_owned()
            }
            "RCPT" => {
                mail.to.push(path(&line));
                let refusal = lock(taken).refusal.clone();
                refusal.unwrap_or_else(|| "250 ok".to_owned())
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                mail.text = text(&mut stream).await?;
                lock(taken).mails.push(mail.clone());
                "250 taken".to_owned()
            }
            "QUIT" => "221 bye".to_owned(),
            "NOOP" | "RSET" => "250 ok".to_owned(),
            _ => "502 not known".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

/// What stands between `<` and `>`.
fn path(line: &str) -> String {
    let inner = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or("", |(path, _)| path).to_owned()
}

/// The lines up to the lone dot; a doubled dot at a line's start is one.
async fn text(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let (mut text, mut line) = (String::new(), String::new());
    while stream.read_line(&mut line).await? > 0 {
        let trimmed = line.trim_end_matches(['\r', '\n']);
        if trimmed == "." {
            break;
        }
        text.push_str(trimmed.strip_prefix('.').unwrap_or(trimmed));
        text.push('\n');
        line.clear();
    }
    Ok(text)
}
