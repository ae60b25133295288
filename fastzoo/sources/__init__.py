"""From a sensor's bytes to a stream: read, choose columns, convert units, mend gaps, resample, classify.

``pieces`` (bytes as they come) -> ``readers`` (rows) -> ``mapping`` and ``units`` (channels in the model's units) ->
``gaps`` (nothing missing) -> ``resample`` (the model's rate) -> ``feed`` (results in the sensor's time).
"""
