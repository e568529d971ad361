"""The elastic agent: what torch has in `torch.distributed.elastic`.

`agent` runs in the agent process of a job, one on each node. It meets the agents of other nodes (`rendezvous`), starts
a group of workers (`worker_group`, `starter`, `placement`), agrees with the other agents on what a failure means
(`nodes`), and shows what workers write (`logs`, `tail`). `entrypoint` and `script` run in workers.
"""
