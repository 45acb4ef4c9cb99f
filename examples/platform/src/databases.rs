//! The databases of the settings: which nodes there are, and their migrations.

use maxscale_core::fact::RegionId;
use maxscale_shard::fleet::{Migrate, NodeSpec};
use maxscale_shard::residency::Residency;
use maxscale_shard::telemetry::Telemetry;
use maxscale_shard::{Fleet, FleetConfig};

use crate::folder::DataFolder;
use crate::settings::{EMBEDDED_NODES, Settings};
use crate::start::StartError;

/// Opens them; an embedded folder is held by what comes beside.
pub(crate) async fn open_fleet(
    settings: &Settings,
    migrate: Migrate,
    telemetry: &Telemetry,
) -> Result<(Option<DataFolder>, Fleet), StartError> {
    let (folder, config) = fleet_config(settings, true)?;
    let config = config.migrate(migrate).telemetry(telemetry.clone());
    Ok((folder, Fleet::open(config).await?))
}

/// The fleet of `settings`. Its folder is made and held if `take` says so.
pub(crate) fn fleet_config(
    settings: &Settings,
    take: bool,
) -> Result<(Option<DataFolder>, FleetConfig), StartError> {
    let mut folder = None;
    let (mut specs, mut catalog) = (Vec::new(), settings.catalog.clone());
    if let Some(entries) = &settings.nodes {
        if entries.is_empty() {
            return Err(StartError::NoNodes);
        }
        for (number, entry) in (1..).zip(entries) {
            specs.push(NodeSpec::parse(entry, number)?);
        }
    } else {
        if take {
            folder = Some(DataFolder::take(&settings.data)?);
        }
        let database = |name: &str| DataFolder::database_in(&settings.data, name);
        for number in 1..=EMBEDDED_NODES {
            let url = database(&format!("node-{number}"));
            specs.push(NodeSpec::parse(&url, number)?);
        }
        catalog = catalog.or_else(|| Some(database("catalog")));
    }
    for (number, entry) in (1..).zip(settings.replicas.iter().flatten()) {
        NodeSpec::attach(&mut specs, entry, number)?;
    }
    let mut config = FleetConfig::new(specs)
        .shards(settings.shards)
        .wait(settings.wait)
        .migrations(maxscale_auth::MIGRATIONS)
        .migrations(maxscale_queue::MIGRATIONS)
        .migrations(crate::schema::MIGRATIONS);
    if let Some(url) = catalog {
        config = config.catalog(url);
    }
    if let Some(names) = &settings.residency {
        let regions: Option<Vec<_>> = names.iter().map(|name| RegionId::new(name)).collect();
        let regions = regions.ok_or(StartError::Bounds {
            key: "shards.residency",
            allowed: "a list of regions, each 1 to 32 of a-z, 0-9 and -",
        })?;
        let everything = Residency::new().pin_shards(0..settings.shards, regions);
        config = config.residency(everything);
    }
    if let Some(path) = &settings.map_copy {
        config = config.map_copy(path);
    }
    Ok((folder, config))
}

/// What a start does about pending migrations.
pub(crate) fn migrate_mode(settings: &Settings) -> Migrate {
    match settings.migrate.as_str() {
        "check" => Migrate::Check,
        "off" => Migrate::Off,
        _ => Migrate::Auto,
    }
}
