//! A server that takes mail, to read what a service sends.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificate;

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
    /// Whether it came over TLS.
    pub tls: bool,
    /// Its headers and its text, lines ended by `\n`.
    pub text: String,
}

#[derive(Debug, Default)]
struct Taken {
    mails: Vec<TakenMail>,
    refusal: Option<String>,
}

/// How a server comes to speak TLS.
#[derive(Clone)]
enum TlsBy {
    No,
    /// It is asked to (RFC 3207), and takes no mail before.
    StartTls(TlsAcceptor),
    /// It does from the start (RFC 8314).
    Wrapper(TlsAcceptor),
}

/// What a conversation goes over.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    Plain,
    PlainAtFirst,
    Tls,
}

const GREETING: &[u8] = b"220 sink\r\n";

// === impl SmtpServer ===

impl SmtpServer {
    /// Starts one without TLS.
    pub async fn start() -> Self {
        Self::speaking(TlsBy::No, |at| format!("smtp://{at}")).await
    }

    /// Starts one that shows this certificate when it is asked to by `STARTTLS`, and
    /// takes no mail before.
    pub async fn start_with_starttls(certificate: &Certificate) -> Self {
        let tls = TlsBy::StartTls(certificate.acceptor());
        Self::speaking(tls, |at| format!("smtp://{at}?tls=required")).await
    }

    /// Starts one that speaks TLS from the start, with this certificate.
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        let tls = TlsBy::Wrapper(certificate.acceptor());
        Self::speaking(tls, |at| format!("smtps://{at}")).await
    }

    async fn speaking(tls: TlsBy, url: impl FnOnce(SocketAddr) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port of 127.0.0.1 is free");
        let address = listener.local_addr().expect("it listens");
        let taken = Arc::<Mutex<Taken>>::default();
        let task = tokio::spawn(serve(listener, taken.clone(), tls));
        Self {
            url: url(address),
            taken,
            task,
        }
    }

    /// Where it listens, and how it wants to be spoken to.
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

async fn serve(listener: TcpListener, taken: Arc<Mutex<Taken>>, tls: TlsBy) {
    while let Ok((stream, _)) = listener.accept().await {
        let (taken, tls) = (taken.clone(), tls.clone());
        tokio::spawn(async move {
            // A client that hangs up, as it does when it sees a wrong certificate, has
            // said all that it had to.
            let _ = session(stream, &taken, &tls).await;
        });
    }
}

async fn session(mut stream: TcpStream, taken: &Mutex<Taken>, tls: &TlsBy) -> io::Result<()> {
    match tls {
        TlsBy::No => {
            stream.write_all(GREETING).await?;
            talk(stream, taken, Over::Plain).await.map(drop)
        }
        TlsBy::Wrapper(acceptor) => {
            let mut stream = acceptor.accept(stream).await?;
            stream.write_all(GREETING).await?;
            stream.flush().await?;
            talk(stream, taken, Over::Tls).await.map(drop)
        }
        TlsBy::StartTls(acceptor) => {
            stream.write_all(GREETING).await?;
            let Some(stream) = talk(stream, taken, Over::PlainAtFirst).await? else {
                return Ok(());
            };
            let stream = acceptor.accept(stream).await?;
            talk(stream, taken, Over::Tls).await.map(drop)
        }
    }
}

/// Answers a client to its end, or gives the stream back that is to have TLS now.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    taken: &Mutex<Taken>,
    over: Over,
) -> io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    let mut mail = TakenMail::default();
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let word = line.split([' ', ':', '\r']).next().unwrap_or_default();
        let answer = match (&*word.to_ascii_uppercase(), over) {
            ("EHLO", Over::PlainAtFirst) => "250-sink\r\n250 STARTTLS".to_owned(),
            ("EHLO", _) => "250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8".to_owned(),
            ("STARTTLS", Over::PlainAtFirst) => {
                stream.write_all(b"220 go on\r\n").await?;
                // What is read ahead was said without TLS, and does not count.
                return Ok(Some(stream.into_inner()));
            }
            ("MAIL", Over::PlainAtFirst) => "530 STARTTLS first".to_owned(),
            ("MAIL", _) => {
                mail = TakenMail {
                    from: path(&line),
                    tls: over == Over::Tls,
                    ..TakenMail::default()
                };
                "250 ok".to_owned()
            }
            ("RCPT", _) => {
                mail.to.push(path(&line));
                let refusal = lock(taken).refusal.clone();
                refusal.unwrap_or_else(|| "250 ok".to_owned())
            }
            ("DATA", _) => {
                stream.write_all(b"354 go on\r\n").await?;
                mail.text = text(&mut stream).await?;
                lock(taken).mails.push(mail.clone());
                "250 taken".to_owned()
            }
            ("QUIT", _) => "221 bye".to_owned(),
            ("NOOP" | "RSET", _) => "250 ok".to_owned(),
            _ => "502 not known".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        // Under TLS what is written stays in a buffer until then.
        stream.flush().await?;
        line.clear();
    }
    Ok(None)
}

/// What stands between `<` and `>`.
fn path(line: &str) -> String {
    let inner = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or("", |(path, _)| path).to_owned()
}

/// The lines up to the lone dot; a doubled dot at a line's start is one.
async fn text(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
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
