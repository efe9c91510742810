"""`interp doctor`: is this model wired right?"""

import typer

from interp.cli.options import AsJson, Device, DeviceMap, Dtype, ModelName, Revision, as_json, load_model, say


def doctor(
    model: ModelName = "organism",
    dtype: Dtype = None,
    device: Device = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    json: AsJson = False,
) -> None:
    """Check a model's template, BOS, stop ids and sites, and that reading and editing it can be believed.

    Exit status 1 if a check fails; each failing line says what to do.
    """
    from interp.doctor import examine, lines, sound

    loaded = load_model(model, dtype, device, device_map, revision)
    checks = examine(loaded)
    if json:
        as_json({"model": loaded.name, "sound": sound(checks), "checks": [check.to_dict() for check in checks]})
    else:
        say(str(loaded))
        for line in lines(checks):
            say(line)
    if not sound(checks):
        raise typer.Exit(1)
