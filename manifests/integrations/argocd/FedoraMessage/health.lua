-- Healthy once the broker has confirmed the message, and degraded once the operator gave it up.
local health = { status = "Progressing", message = "Waiting for fedora-message-operator" }
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "FedoraMessageSent" then
    health.message = condition.reason .. ": " .. condition.message
    if condition.status == "True" then
      health.status = "Healthy"
      return health
    end
  end
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    health.status = "Degraded"
    return health
  end
end
if obj.spec ~= nil and obj.spec.suspend == true then
  health.status = "Suspended"
  health.message = "Waits until spec.suspend is false"
end
return health
