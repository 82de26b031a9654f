"""`smi-xds`: its commands, and how errors of the world become one line and an exit code."""

import signal
import sys
from collections.abc import Iterator, Sequence

import click

from smi_xds import __version__
from smi_xds.cli.bootstrap import bootstrap
from smi_xds.cli.ca import ca
from smi_xds.cli.check import check
from smi_xds.cli.demo import demo
from smi_xds.cli.explain import explain
from smi_xds.cli.graph import graph
from smi_xds.cli.install import install
from smi_xds.cli.proxies import proxies
from smi_xds.cli.serve import serve
from smi_xds.cli.translate import translate
from smi_xds.cli.verify import verify
from smi_xds.problems import SmiXdsError

COULD_NOT_RUN = 2
INTERRUPTED = 128 + signal.SIGINT


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: smi-xds demo",
)
def cli() -> None:
    """Make the Service Mesh Interface (SMI) work on Envoy.

    SMI objects, in a folder of YAML files or in a Kubernetes API server, say who may call whom
    and how traffic is split. This control plane tells it to Envoy sidecars over xDS.

    \b
    Examples:
      smi-xds demo                                       watch it at work, here and now
      smi-xds check --files examples/01-allow-one-route  what is wrong with these objects?
      smi-xds serve --files my-objects                   serve a folder, and follow its changes
    """


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"smi-xds {__version__}")


_ASKING = (check, explain, graph, translate, proxies)
_COMMANDS = (serve, demo, *_ASKING, bootstrap, ca, install, verify, version)
for command in _COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        code = cli.main(args=arguments, prog_name="smi-xds", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (SmiXdsError, ExceptionGroup) as error:
        for line in _lines(error):
            click.echo(f"smi-xds: {line}", err=True)
        code = COULD_NOT_RUN
    sys.exit(code)


def _lines(error: Exception) -> Iterator[str]:
    """One line for each thing that is wrong with the world; anything else is a bug of ours."""
    match error:
        case SmiXdsError():
            yield str(error)
        case ExceptionGroup():
            mine, others = error.split(SmiXdsError)
            if mine is None or others is not None:
                raise error
            yield from dict.fromkeys(line for part in mine.exceptions for line in _lines(part))
        case _:
            raise error
