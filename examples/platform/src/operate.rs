//! What an operator does about the databases beside serving: migrations, and the map.

use maxscale_shard::Fleet;
use maxscale_shard::fleet::{ChangeError, FleetError, Migrate, Waves};
use maxscale_shard::telemetry::Telemetry;

use crate::databases::{fleet_config, open_fleet};
use crate::settings::Settings;
use crate::start::StartError;

/// What an operator may do about migrations.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "the program names each")]
pub enum MigrateCommand {
    /// Run what is pending, in these waves.
    Run(Waves),
    /// Tell what would run in these waves.
    Plan(Waves),
    /// Tell what was changed past the migrations.
    Drift,
    /// Take what is there as what the migrations made.
    AcceptDrift,
}

/// Does what `command` says and nothing else; gives what there is to tell.
///
/// # Errors
///
/// Returns [`StartError`], also for drift; [`StartError::report`] tells more.
pub async fn migrate(settings: &Settings, command: MigrateCommand) -> Result<String, StartError> {
    let telemetry = Telemetry::new();
    match command {
        MigrateCommand::Run(waves) => {
            let (_folder, config) = fleet_config(settings, true)?;
            let rollout = Box::pin(Fleet::migrate(config, &waves)).await?;
            Ok(rollout.to_string())
        }
        MigrateCommand::Plan(waves) => {
            let (_, config) = fleet_config(settings, false)?;
            Ok(Fleet::plan(config, &waves).await?.to_string())
        }
        MigrateCommand::Drift => {
            let (_folder, fleet) = open_fleet(settings, Migrate::Check, &telemetry).await?;
            let report = fleet.drift().await;
            fleet.close().await;
            if report.is_clean() {
                Ok("every table is as its migrations made it".to_owned())
            } else {
                Err(StartError::Drift(report))
            }
        }
        MigrateCommand::AcceptDrift => {
            let (_folder, fleet) = open_fleet(settings, Migrate::Check, &telemetry).await?;
            let accepted = fleet.accept_drift().await;
            fleet.close().await;
            accepted.map_err(FleetError::from)?;
            Ok("every table is taken as its migrations made it".to_owned())
        }
    }
}

/// What an operator may do about the shard map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the program names each")]
pub enum MapCommand {
    /// Nothing but look.
    Show,
    /// Put the map in use into the catalog again, above every epoch.
    Lift,
}

/// Does what `command` says; gives the map in use as text, and what the catalog
/// says of it.
///
/// # Errors
///
/// Returns [`StartError`].
pub async fn map(settings: &Settings, command: MapCommand) -> Result<String, StartError> {
    let (_folder, fleet) = open_fleet(settings, Migrate::Check, &Telemetry::new()).await?;
    if command == MapCommand::Lift {
        let lifted = fleet.lift().await;
        lifted.map_err(|error| match error {
            ChangeError::Fleet(error) => StartError::Fleet(error),
            error => StartError::Assemble(error.into()),
        })?;
    }
    let problem = fleet.map_status().problem;
    let map = fleet.router().topology();
    fleet.close().await;
    Ok(match problem.filter(|_| command == MapCommand::Show) {
        Some(problem) => format!("{map}not confirmed: {problem}"),
        None => format!("{map}confirmed by the catalog"),
    })
}
