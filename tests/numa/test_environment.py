"""Variables for a worker's children, and where the user's own contradict the binding."""

from __future__ import annotations

import pytest

from elastic_hydra.config.numa import Allocator
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.thread_env import environment, preload
from tests.numa.machines import write

BINDING = Binding(cpus=(4, 5, 6, 7), threads=4, cores=4)


def test_threads_are_set_for_openmp_mkl_and_openblas():
    found = environment(BINDING, {})
    assert found.variables == {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    assert found.warnings == ()


def test_what_the_user_set_stays():
    found = environment(BINDING, {"OMP_NUM_THREADS": "2"}, {"KMP_BLOCKTIME": "1"})
    assert found.variables == {"KMP_BLOCKTIME": "1"}
    assert "MKL_NUM_THREADS" not in environment(BINDING, {"MKL_NUM_THREADS": "1"}).variables
    assert environment(Binding(), {}).variables == {}


@pytest.mark.parametrize(
    ("variable", "value", "warning"),
    [
        ("OMP_NUM_THREADS", "64", "is kept, but the worker has 4 CPUs"),
        ("GOMP_CPU_AFFINITY", "0-3", "names CPU 0-3, and the worker is bound to 4-7"),
        ("KMP_AFFINITY", "granularity=fine,proclist=[0,4],explicit", "names CPU 0, and"),
        ("KMP_AFFINITY", "norespect", "will leave the worker's CPUs"),
        ("OMP_PLACES", "{0:4},{4:4}", "names CPU 0-3, and"),
        ("OMP_PROC_BIND", "master", "all threads of a worker will share one core"),
    ],
)
def test_a_contradiction_is_told(variable, value, warning):
    assert warning in environment(BINDING, {variable: value}).warnings[0]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GOMP_CPU_AFFINITY", "4-7:2"),
        ("KMP_AFFINITY", "granularity=fine,compact,1,0"),
        ("OMP_PLACES", "cores"),
        ("OMP_PLACES", "{4:2}"),
        ("OMP_PROC_BIND", "close"),
    ],
)
def test_settings_inside_the_binding_are_fine(variable, value):
    assert environment(BINDING, {variable: value}).warnings == ()


def test_an_allocator_is_found_in_debians_folders_and_with_a_version(tmp_path):
    write(tmp_path, {"usr/lib/x86_64-linux-gnu/libjemalloc.so.2": "", "usr/lib64/libtcmalloc_minimal.so.4": ""})
    found = preload(Allocator.auto, {"LD_PRELOAD": "/x.so"}, tmp_path).variables
    assert found == {"LD_PRELOAD": f"{tmp_path}/usr/lib64/libtcmalloc_minimal.so.4:/x.so"}
    jemalloc = preload(Allocator.jemalloc, {}, tmp_path).variables
    assert jemalloc["LD_PRELOAD"] == f"{tmp_path}/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
    assert "background_thread:true" in jemalloc["MALLOC_CONF"]
    assert preload(Allocator.auto, {"LD_PRELOAD": "/opt/libjemalloc.so"}, tmp_path).variables == {}


def test_a_missing_allocator_is_an_error_that_says_what_to_install(tmp_path):
    with pytest.raises(NumaError, match=r"allocator=tcmalloc: found no libtcmalloc.so or .*apt-get install"):
        preload(Allocator.tcmalloc, {}, tmp_path)
    assert "the C library's allocator stays" in preload(Allocator.auto, {}, tmp_path).warnings[0]
