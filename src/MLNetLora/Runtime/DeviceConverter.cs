using System.ComponentModel;
using System.Globalization;

namespace MLNetLora.Runtime;

/// <summary>Lets configurations name a device as people write it: see <see cref="Device.Parse"/>.</summary>
internal sealed class DeviceConverter : TypeConverter
{
    /// <inheritdoc/>
    public override bool CanConvertFrom(ITypeDescriptorContext? context, Type sourceType) =>
        sourceType == typeof(string) || base.CanConvertFrom(context, sourceType);

    /// <inheritdoc/>
    public override object? ConvertFrom(ITypeDescriptorContext? context, CultureInfo? culture, object value) =>
        value is string text ? Device.Parse(text) : base.ConvertFrom(context, culture, value);
}
