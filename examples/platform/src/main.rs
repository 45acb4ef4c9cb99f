//! The platform as a program.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use maxscale_core::config::Explanation;
use maxscale_core::meter::span::Sampler;
use maxscale_core::serve::Stop;
use maxscale_core::telemetry::slo::{self, Objectives};
use maxscale_core::telemetry::{self, Metrics};
use maxscale_shard::NodeId;
use maxscale_shard::fleet::Waves;
use platform::assembly::Platform;
use platform::banner::Banner;
use platform::mail;
use platform::operate::{self, MapCommand, MigrateCommand};
use platform::otel;
use platform::serve::{Listeners, serve};
use platform::settings::{self, Settings};
use platform::start::StartError;

/// A service for creators on the maxscale crates.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration file; maxscale.toml if it is there.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Sets one setting, over file and environment.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Serves; the default.
    Serve,
    /// Runs pending migrations on every node, in waves, and ends.
    Migrate {
        #[command(flatten)]
        how: How,

        #[command(subcommand)]
        what: Option<MigrateCheck>,
    },
    /// Prints the shard map in use, and whether the catalog confirms it.
    Map {
        #[command(subcommand)]
        what: Option<MapChange>,
    },
    /// Prints what to watch this program with.
    Observe {
        #[command(subcommand)]
        what: Observed,
    },
    /// Prints every effective setting and where it came from.
    Config {
        #[command(subcommand)]
        what: Option<Listing>,
    },
}

#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
struct How {
    /// Tells what would run where, with its SQL, and writes nothing.
    #[arg(long)]
    dry_run: bool,

    /// The node that is migrated first; the one listed first unless given.
    #[arg(long, value_name = "NODE", value_parser = NodeId::new)]
    canary: Option<NodeId>,

    /// How many nodes each wave after it has; 2, 4, 8 and so on unless given.
    #[arg(long, value_name = "N")]
    wave: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum MigrateCheck {
    /// Tells which tables were changed past the migrations.
    Drift {
        /// Takes what is there as what the migrations made.
        #[arg(long)]
        accept: bool,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum MapChange {
    /// Puts the map in use into the catalog again, above every epoch: for a
    /// catalog that was restored from a backup.
    Lift,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Observed {
    /// Rules for Prometheus: burn rates, and alerts.
    Rules,
    /// A dashboard for Grafana.
    Dashboard,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Listing {
    /// Prints every setting there is, as a page of the book.
    Reference,
}

impl How {
    fn command(self, what: Option<MigrateCheck>) -> MigrateCommand {
        match what {
            Some(MigrateCheck::Drift { accept: false }) => return MigrateCommand::Drift,
            Some(MigrateCheck::Drift { accept: true }) => return MigrateCommand::AcceptDrift,
            None => {}
        }
        let mut waves = Waves::new();
        if let Some(canary) = self.canary {
            waves = waves.canary(canary);
        }
        if let Some(width) = self.wave {
            waves = waves.width(width);
        }
        if self.dry_run {
            MigrateCommand::Plan(waves)
        } else {
            MigrateCommand::Run(waves)
        }
    }
}

/// Not clap's to read: it would repeat what it refuses, which may be a secret.
fn pair((number, text): (usize, &String)) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        let why = "there is no = between key and value";
        Explanation::new("cannot read --set", why, "write it as --set key=value")
            .place(format!("number {number} of --set"))
            .to_string()
    })?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    let command = args.command.take().unwrap_or(Command::Serve);
    match run(args, command) {
        Ok(code) => code,
        Err(text) => {
            // Nothing is left to tell it to if that fails too.
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args, command: Command) -> Result<ExitCode, String> {
    if let Command::Config {
        what: Some(Listing::Reference),
    } = command
    {
        let page = settings::reference().map_err(|error| error.to_string())?;
        return print(page.trim_end()).map(|()| ExitCode::SUCCESS);
    }
    if let Command::Observe { what } = command {
        let text = match what {
            Observed::Rules => slo::rules(&Objectives::default()),
            Observed::Dashboard => slo::dashboard(),
        };
        return print(text.trim_end()).map(|()| ExitCode::SUCCESS);
    }
    let set: Result<Vec<_>, _> = (1..).zip(&args.set).map(pair).collect();
    let config = settings::load(args.config, set?).map_err(|error| error.to_string())?;
    let settings = Settings::read(&config).map_err(|error| error.explanation().to_string())?;
    if matches!(command, Command::Config { .. }) {
        return print(&config.to_string()).map(|()| ExitCode::SUCCESS);
    }
    let insecure = settings::insecure(&config, &settings);
    if !insecure.is_empty() {
        let blocks: Vec<_> = insecure.iter().map(ToString::to_string).collect();
        return Err(blocks.join("\n\n"));
    }
    let telemetry = otel::telemetry(&config, &settings)?;
    let guard = telemetry::init(telemetry).map_err(|error| {
        let why = maxscale_core::Chain(&error).to_string();
        let action = "write it as info, or as info,maxscale_shard=debug";
        config
            .explain("log.filter", "cannot start the log", &why, action)
            .to_string()
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        let action = "see how many threads this user may have";
        Explanation::new("cannot start the runtime", error.to_string(), action).to_string()
    })?;
    let done = runtime.block_on(async {
        match command {
            Command::Migrate { how, what } => {
                migrate(&settings, how.command(what)).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Map { what } => {
                let command = match what {
                    Some(MapChange::Lift) => MapCommand::Lift,
                    None => MapCommand::Show,
                };
                let told = operate::map(&settings, command).await?;
                // A closed standard output is nobody who would read it.
                let _ = print(&told);
                Ok(ExitCode::SUCCESS)
            }
            _ => start(&settings, guard.sampler()).await,
        }
    });
    // A job's thread that cannot be interrupted must not hold up the end.
    runtime.shutdown_timeout(LAST_THREADS);
    done.map_err(|error: StartError| error.explanation(&config).to_string())
}

/// Prints what there is to tell, also of what failed.
async fn migrate(settings: &Settings, command: MigrateCommand) -> Result<(), StartError> {
    let done = operate::migrate(settings, command).await;
    let report = match &done {
        Ok(told) => Some(told.clone()),
        Err(error) => error.report(),
    };
    // A closed standard output is nobody who would read it.
    let _ = report.map(|told| print(told.trim_end()));
    done.map(drop)
}

/// How long threads may take to come back when all else has ended.
const LAST_THREADS: Duration = Duration::from_millis(500);

async fn start(settings: &Settings, sampler: Sampler) -> Result<ExitCode, StartError> {
    // From the first line on: a stop during the start must not be missed.
    let stop = Stop::new();
    let failed = |error: std::io::Error| StartError::Assemble(error.into());
    stop.on_signals().map_err(failed)?;
    let listeners = Listeners::bind(settings).await?;
    let metrics = Metrics::new();
    let meter = metrics.meter("platform");
    let main = listeners.address().map_err(failed)?;
    let platform = tokio::select! {
        platform = Platform::assemble(settings, main, &meter, sampler) => platform?,
        _ = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    let banner = Banner {
        main,
        admin: listeners.admin_address().map_err(failed)?,
        mails: mail::folder(settings),
        moved: !settings.listen_chosen && main.port() != settings.listen.port(),
    };
    // A closed standard output is no reason not to serve.
    let _ = print(&banner.to_string());
    tracing::info!(%main, "serving");
    let ended = serve(platform, listeners, &metrics, settings, &stop).await?;
    // What was cut was cut in order; a second signal is like a kill.
    Ok(if ended.at_once {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())
}
