//! What happens to the servers. At every moment at least one of them is well, and its circuit closed: no caller has an
//! excuse.

use std::error::Error;
use std::time::Duration;

use service_mesh::{CircuitState, ServiceProxy};
use tokio::time::{sleep, timeout};

use crate::journal::Journal;
use crate::server::{Condition, Server};

/// Plays the script to its end.
pub(crate) async fn play(
    servers: &mut [Server; 3],
    proxy: &ServiceProxy,
    journal: &Journal,
) -> Result<(), Box<dyn Error>> {
    let [alpha, beta, gamma] = servers;

    journal.begin("all are well");
    pause(1.0).await;

    journal.begin("alpha answers 500");
    alpha.turn(Condition::Failing);
    pause(1.5).await;

    journal.begin("beta hangs as well");
    beta.turn(Condition::Hanging);
    pause(1.5).await;

    journal.begin("both are mended");
    alpha.turn(Condition::Well);
    beta.turn(Condition::Well);
    pause(1.5).await;
    until_recovered(proxy).await?;

    journal.begin("gamma is dead");
    gamma.die().await?;
    pause(1.7).await;

    journal.begin("gamma is back");
    gamma.come_back()?;
    pause(1.5).await;
    until_recovered(proxy).await
}

async fn pause(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

/// The next trouble begins when the proxy trusts all servers again. They have had the time for that; on a machine that
/// is very busy it may take longer.
async fn until_recovered(proxy: &ServiceProxy) -> Result<(), Box<dyn Error>> {
    let closed = |id: &str| proxy.instance_circuit_breaker(id).is_some_and(|it| it.state() == CircuitState::Closed);
    let recovered = async {
        while !crate::NAMES.into_iter().all(closed) {
            pause(0.02).await;
        }
    };
    Ok(timeout(Duration::from_secs(5), recovered).await.map_err(|_| "a server that is well was not trusted again")?)
}
