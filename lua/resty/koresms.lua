--- The name under which OpenResty's users look for koresms.
-- @module resty.koresms
return require "koresms"
