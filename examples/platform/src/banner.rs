//! What a person sees who starts the platform on a terminal.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The table of URLs, and lines to copy for the first steps.
#[derive(Clone, Debug)]
pub struct Banner {
    /// Where requests are taken.
    pub main: SocketAddr,
    /// Where `/health` and `/metrics` are.
    pub admin: SocketAddr,
    /// The folder that mails are written to, if they are.
    pub mails: Option<PathBuf>,
    /// Whether the configured default port gave way to another.
    pub moved: bool,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            main,
            admin,
            mails,
            moved,
        } = self;
        if *moved {
            writeln!(f, "Port 3000 is taken, so a free one was chosen.\n")?;
        }
        writeln!(f, "  service    http://{main}/v1")?;
        writeln!(f, "  ready      http://{main}/readyz")?;
        writeln!(f, "  alive      http://{main}/livez")?;
        writeln!(f, "  health     http://{admin}/health")?;
        writeln!(f, "  metrics    http://{admin}/metrics")?;
        if let Some(folder) = mails {
            writeln!(f, "  mails      {}", folder.display())?;
        }
        writeln!(f, "\nFirst steps, to copy into another terminal:\n")?;
        writeln!(f, "  base=http://{main}")?;
        f.write_str(STEPS)
    }
}

const STEPS: &str = r#"  curl -sS -w '\n' -c cookies.txt -H 'content-type: application/json' -d '{"email":"ada@example.com","password":"correct horse battery staple","name":"Ada"}' "$base/v1/signup"
  curl -sS -w '\n' -b cookies.txt "$base/v1/me"
  curl -sS -w '\n' -b cookies.txt -H 'content-type: application/json' -d '{"title":"First recordings"}' "$base/v1/projects"
"#;
