use service_mesh::with_retry;

struct Body;

#[with_retry]
fn send(body: Body) -> Result<(), u32> {
    drop(body);
    Ok(())
}

#[with_retry]
async fn send_async<T>(body: T) -> Result<(), u32> {
    drop(body);
    Ok(())
}

fn main() {
    let _ = (send(Body), send_async(Body));
}
