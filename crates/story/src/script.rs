//! What happens to the servers. At every moment at least one of them is well, and its circuit closed: no caller has an
//! excuse.

use std::error::Error;
use std::time::Duration;

use service_mesh::{CircuitState, ServiceProxy};
use tokio::time::{sleep, timeout};

use crate::NAMES;
use crate::journal::Journal;
use crate::server::{Condition, Server};
use crate::speed::Speed;

pub(crate) type Played = Result<(), Box<dyn Error + Send + Sync>>;

/// How long a server that is well may take to be trusted again, and is not slow for that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the first part, in which nothing happens yet.
pub(crate) fn begin(journal: &Journal) {
    journal.begin("all are well");
}

/// Plays the script to its end, from where it was begun.
pub(crate) async fn play(servers: &mut [Server; 3], proxy: &ServiceProxy, journal: &Journal, speed: Speed) -> Played {
    let [alpha, beta, gamma] = servers;
    let pause = async |seconds| sleep(speed.of(seconds)).await;

    pause(1.0).await;

    journal.begin("alpha answers 503");
    alpha.turn(Condition::Failing);
    pause(1.5).await;

    journal.begin("beta hangs as well");
    beta.turn(Condition::Hanging);
    pause(1.5).await;

    journal.begin("both are mended");
    alpha.turn(Condition::Well);
    beta.turn(Condition::Well);
    pause(1.5).await;
    until_trusted(proxy).await?;

    journal.begin("gamma is dead");
    gamma.die().await?;
    pause(1.7).await;

    journal.begin("gamma is back");
    gamma.come_back()?;
    pause(1.5).await;
    until_trusted(proxy).await
}

/// The next trouble begins when the proxy trusts all servers again. They have had the time for that; on a machine that
/// is very busy it may take longer.
async fn until_trusted(proxy: &ServiceProxy) -> Played {
    let closed = |id: &str| proxy.instance_circuit_breaker(id).is_some_and(|it| it.state() == CircuitState::Closed);
    let trusted = async {
        while !NAMES.into_iter().all(closed) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    Ok(timeout(PATIENCE, trusted).await.map_err(|_| "a server that is well was not trusted again")?)
}
