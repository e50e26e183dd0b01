"""Key names: RQ's classes, our Python and our Lua mean the same keys."""

import pytest
from rq import Queue
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import Job as RqJob
from rq.registry import CanceledJobRegistry, FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import BaseWorker

from producer import keys
from producer.job import TASK_NAME
from producer.keys import job_key, queue_key, registry_key
from producer.scripts import Scripts


def test_keys_are_those_of_rq(connection):
    """Our key functions and RQ's classes name the same keys."""
    read = RqJob.create(TASK_NAME, connection=connection, id="x", serializer=JSONSerializer)
    assert job_key("x") == read.key
    assert queue_key("q") == Queue("q", connection=connection).key
    assert Queue.redis_queues_keys == keys.QUEUES_KEY
    for name, registry in (
        ("wip", StartedJobRegistry),
        ("failed", FailedJobRegistry),
        ("canceled", CanceledJobRegistry),
    ):
        assert registry_key(name, "q") == registry.key_template.format("q")
    assert keys.SUSPENDED_KEY == WORKERS_SUSPENDED
    assert keys.worker_key("w") == BaseWorker.redis_worker_namespace_prefix + "w"
    assert keys.worker_executions_key("w") == WORKER_EXECUTIONS_KEY_TEMPLATE.format("w")
    assert keys.executions_key("x") == ExecutionRegistry.key_template.format("x")
    assert keys.execution_key("x", "1") == Execution("1", "x", connection=connection).key


BUILDERS = {
    "result_key": ("x",),
    "progress_key": ("x",),
    "checkpoint_key": ("x",),
    "upload_key": ("x",),
    "http_key": ("file", "x"),
    "batch_key": ("night",),
    "counts_key": ("night",),
    "ended_key": ("night",),
    "reported_key": ("night",),
    "models_key": ("night",),
    "submission_key": ("night",),
    "work_key": (20_000,),
    "submitting_key": ("night",),
    "job_key": ("x",),
    "rq_results_key": ("x",),
    "queue_key": ("low",),
    "registry_key": ("wip", "low"),
    "worker_key": ("w",),
    "worker_executions_key": ("w",),
    "execution_key": ("x", "1"),
    "executions_key": ("x",),
}


def test_every_builder_is_compared():
    """A new one must be added to the table, and so to the comparison with Lua."""
    assert {name for name in vars(keys) if name.endswith("_key")} == set(BUILDERS)


@pytest.mark.parametrize(("name", "arguments"), BUILDERS.items())
def test_lua_and_python_build_the_same_keys(connection, tmp_path, name, arguments):
    """The prelude of the scripts has its own builders, of the same names."""
    (tmp_path / "key.lua").write_text(f"return {name}(unpack(args.arguments))")
    in_lua = Scripts(connection, tmp_path).run("key", arguments=arguments)
    assert in_lua.decode() == getattr(keys, name)(*arguments)


def test_lua_and_python_name_the_same_single_keys(connection, tmp_path):
    """Those that stand for the whole farm."""
    (tmp_path / "keys.lua").write_text(
        "return {EVENTS, QUEUES, WORKERS, SUSPENDED, BOOTS, FACTS, ROSTER, LOST, PAUSED, METRICS}"
    )
    assert [key.decode() for key in Scripts(connection, tmp_path).run("keys")] == [
        keys.EVENTS_KEY,
        keys.QUEUES_KEY,
        keys.WORKERS_KEY,
        keys.SUSPENDED_KEY,
        keys.BOOTS_KEY,
        keys.FACTS_KEY,
        keys.ROSTER_KEY,
        keys.LOST_KEY,
        keys.PAUSED_KEY,
        keys.METRICS_KEY,
    ]
