using System.CommandLine;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli;

/// <summary>A command that takes settings from files and from its line.</summary>
internal sealed class SettingsCommand : Command
{
    public SettingsCommand(string name, string description, CommandKinds kind)
        : base(name, description) => Settings = new SettingOptions(this, kind);

    /// <summary>Its settings.</summary>
    public SettingOptions Settings { get; }
}
