"""`interp doctor`: is this model wired right?"""

import typer

from interp.cli import options


def doctor(
    model: options.ModelName = "organism",
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    json: options.AsJson = False,
) -> None:
    """Check a model's template, BOS, stop ids and sites, and that reading and editing it can be believed.

    Exit status 1 if a check fails; each failing line says what to do.
    """
    from interp.doctor import examine, lines, sound

    loaded = options.load_model(model, dtype, device, device_map, revision)
    checks = examine(loaded)
    if json:
        options.as_json({"model": loaded.name, "sound": sound(checks), "checks": [check.to_dict() for check in checks]})
    else:
        options.say(str(loaded))
        for line in lines(checks):
            options.say(line)
    if not sound(checks):
        raise typer.Exit(1)
