"""One operating-system process around one core.

The core decides, the host acts. One owner (``node.Node``) calls the core and nobody else does; it
takes everything that waits in its bounded inbox in one turn, asks the core to flush, and hands the
effects to ``effects.Performer``, which performs them in list order: nothing behind a ``Persist``
leaves the process before that write is durable. All persists of a turn, and of the turns that pass
while the disk is busy, share one ``fdatasync`` in a worker thread.

    config     what the process is told, and how a launcher starts it
    main       start-up, signals, the end; ``lifeline`` ties it to the life of the launcher
    process    one node assembled from the following
    node       the owner of the core: inbox, turns, timer
    effects    order and group commit
    store      the append-only log on disk and the ordered maps in memory
               (``log_format`` its bytes, ``spaces`` its maps, ``compaction`` its rewriting)
    links      streams to the peers: one frame outstanding, what queues up goes into the next
    faults     loss and delay of messages, injected per peer and direction
    services   the gRPC services; ``pipeline`` is the one for load, ``edge`` checks the secret and
               is the one place where errors become gRPC statuses
    events     what the core observed: kept, streamed, appended to events.jsonl

A node starts in a fraction of a second and five of them share two cores: nothing here imports
numpy, pydantic, or anything of plan, run, analysis, report and cli.
"""
